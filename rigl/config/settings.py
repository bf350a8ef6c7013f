# SPDX-License-Identifier: Apache-2.0
"""Settings of a script: one dataclass gives its flags, defaults and checks.

A flag that the user typed wins over gin, and gin wins over the default.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import gin
from absl import flags, logging

from rigl import configurable
from rigl.config.gin_files import current_bindings, parse_gin
from rigl.config.help_text import set_group

SettingsT = TypeVar("SettingsT", bound="Settings")

# The function that defines a flag, by the type of its default.
DEFINERS = {
  bool: flags.DEFINE_boolean,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
}
# The flags of `define_gin_flags`.
GIN_FLAGS = ("gin_config", "gin_bindings", "gin_imports")
# Bound of steps and seeds.
STEP_LIMIT = 2**31


def setting(
  default: Any,
  help: str,
  *,
  group: str = "run",
  choices: Sequence[str] | None = None,
  minimum: float = -math.inf,
  maximum: float = math.inf,
  less_than: float = math.inf,
  defines_run: bool = True,
  records_default: bool = True,
  ignored: bool | Callable[[Any], bool] = False,
  alias: str | None = None,
  argument: str | Sequence[str] = (),
  methods: Sequence[str] | None = None,
) -> Any:
  """A field of a settings dataclass that is also a flag.

  Args:
    default: the default, whose type is that of the setting: bool, int, float
      or str.
    help: text for `--help`, with the unit.
    group: heading of `--help` under which the flag is listed.
    choices: the allowed values. None: any value.
    minimum: the least allowed number.
    maximum: the greatest allowed number.
    less_than: a bound that a number must stay under.
    defines_run: whether runs that differ in it are different runs. False for
      paths and for what changes no result.
    records_default: whether the identity of a run holds its default. False for
      a setting that earlier versions did not have, whose runs go on.
    ignored: whether the flag has no effect, so that a user who types it gets a
      warning; or a function of the settings that returns this.
    alias: another name of the flag.
    argument: the argument of the method's optimizer that this flag decides;
      several, if optimizers name it differently or the flag decides more than
      one.
    methods: the training methods whose optimizers get the argument. None: all
      that take an argument of this name.

  Returns:
    A dataclass field.
  """
  metadata = dict(
    help=help,
    group=group,
    choices=choices,
    minimum=minimum,
    maximum=maximum,
    less_than=less_than,
    defines_run=defines_run,
    records_default=records_default,
    ignored=ignored,
    alias=alias,
    argument=(argument,) if isinstance(argument, str) else tuple(argument),
    methods=methods,
  )
  return dataclasses.field(default=default, metadata=metadata)


def ignored_setting(default: Any) -> Any:
  """A setting without effect, for the published command lines.

  Args:
    default: the published default.
  """
  return setting(
    default,
    "Has no effect; kept for the published command lines.",
    group="ignored",
    defines_run=False,
    ignored=True,
  )


def override(
  base: type[Settings], name: str, default: Any, **changes: Any
) -> Any:
  """A setting of a base class with another default.

  Args:
    base: the dataclass that declares it.
    name: its name.
    default: the new default.
    **changes: other arguments of `setting` that differ.

  Returns:
    A dataclass field.
  """
  field = {field.name: field for field in dataclasses.fields(base)}[name]
  return setting(default, **{**field.metadata, **changes})


@dataclasses.dataclass(frozen=True)
class Settings:
  """Base of the settings of a script.

  Raises:
    ValueError: if a setting has a wrong type or is outside its range.
  """

  def __post_init__(self) -> None:
    check(self)

  @property
  def explicit(self) -> frozenset[str]:
    """Names of the settings that the user typed, which win over gin."""
    return getattr(self, "_explicit", frozenset())

  def with_explicit(self: SettingsT, names: Iterable[str]) -> SettingsT:
    """A copy whose settings of these names count as typed."""
    copied = copy.copy(self)
    object.__setattr__(copied, "_explicit", frozenset(names))
    return copied

  def changed(self: SettingsT, **values: Any) -> SettingsT:
    """A copy with other values; what the user typed counts as typed still."""
    return dataclasses.replace(self, **values).with_explicit(self.explicit)

  def configure(
    self,
    function: Callable[..., Any],
    flag_names: Mapping[str, str],
    **arguments: Any,
  ) -> Any:
    """Calls a gin-configurable with arguments that come from the settings.

    An argument that gin binds is left to gin, unless the user typed its flag.

    Args:
      function: the gin-configurable class or function.
      flag_names: the flag of an argument, where it has another name.
      **arguments: arguments by name.

    Returns:
      The result of the function.
    """
    explicit = {
      name for name in arguments if flag_names.get(name, name) in self.explicit
    }
    return configurable.call_configured(function, explicit, **arguments)


def define_flags(settings_class: type[Settings]) -> None:
  """Defines a flag for every setting, its alias, and the gin flags."""
  for field in dataclasses.fields(settings_class):
    choices, text = field.metadata["choices"], field.metadata["help"]
    if choices:
      flags.DEFINE_enum(field.name, field.default, list(choices), text)
    else:
      DEFINERS[type(field.default)](field.name, field.default, text)
    alias = field.metadata["alias"]
    if alias:
      flags.DEFINE_alias(alias, field.name)
    set_group(field.name, field.metadata["group"], alias)
  define_gin_flags()


def define_gin_flags() -> None:
  """Defines the flags that `parse_gin` takes."""
  flags.DEFINE_multi_string(
    "gin_config",
    [],
    "Gin file to read: a path, or one of the package such as mnist/rigl.gin.",
  )
  flags.DEFINE_multi_string(
    "gin_bindings", [], "Gin binding, which wins over those of the files."
  )
  flags.DEFINE_boolean(
    "gin_imports",
    False,
    "Whether gin files and bindings may import modules outside of rigl. That "
    "runs them: allow it only for files that you trust.",
  )
  for name in GIN_FLAGS:
    set_group(name, "gin")


def read_flags(settings_class: type[SettingsT]) -> SettingsT:
  """Makes the settings from the parsed flags and gin.

  Args:
    settings_class: a gin-configurable dataclass made of `setting`s.

  Returns:
    The checked settings, which know in `explicit` what the user typed.

  Raises:
    ValueError: if a gin file or binding is wrong, or a setting is outside its
      range.
  """
  values = flags.FLAGS
  parse_gin(values.gin_config, values.gin_bindings, values.gin_imports)
  fields = dataclasses.fields(settings_class)
  explicit = {field.name for field in fields if values[field.name].present}
  with gin.unlock_config():
    for name in explicit:
      gin.bind_parameter(
        f"{settings_class.__name__}.{name}", values[name].value
      )
  settings = settings_class()
  for field in fields:
    ignored = field.metadata["ignored"]
    if field.name in explicit and (
      ignored(settings) if callable(ignored) else ignored
    ):
      logging.warning("--%s has no effect.", field.name)
  return settings.with_explicit(explicit)


def check(settings: Settings) -> None:
  """Checks the type and range of every setting.

  Raises:
    ValueError: naming the setting, the allowed values and the given one.
  """
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    kind = type(field.default)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (
      kind is not bool and isinstance(value, bool)
    ):
      raise ValueError(
        f"`{field.name}` must be of type {kind.__name__}, got {value!r}."
      )
    _check_limits(field, value)


def _check_limits(field: dataclasses.Field, value: Any) -> None:
  limits = field.metadata
  if limits["choices"] and value not in limits["choices"]:
    raise ValueError(
      f"`{field.name}` must be one of {list(limits['choices'])}, got {value!r}."
    )
  if isinstance(value, str | bool):
    return
  minimum, maximum = limits["minimum"], limits["maximum"]
  less_than = limits["less_than"]
  if not (
    minimum <= value <= maximum and value < less_than and abs(value) < math.inf
  ):
    end = f"{maximum}]" if maximum < math.inf else f"{less_than})"
    raise ValueError(
      f"`{field.name}` must be in [{minimum}, {end}, got {value}."
    )


def run_identity(settings: Settings) -> dict[str, Any]:
  """Identity of a run: its settings, and gin bindings of other functions.

  Args:
    settings: the settings.

  Returns:
    A dict that JSON represents exactly.
  """
  identity = {}
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    is_recorded = field.metadata["records_default"] or value != field.default
    if field.metadata["defines_run"] and is_recorded:
      # A float may have been given as an int, which JSON writes differently.
      kind: Any = type(field.default)
      identity[field.name] = kind(value)
  bindings = current_bindings(without=type(settings).__name__)
  return {**identity, "gin_bindings": bindings}
