"""Settings of a script: one dataclass gives its flags, defaults and checks.

A flag that the user typed wins over gin, and gin wins over the default. What
the settings mean is said by the scripts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gin
from absl import flags

# What defines a flag of a type.
DEFINERS = {
  bool: flags.DEFINE_boolean,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
}


def setting(
  default: Any,
  help: str,
  *,
  choices: Sequence[str] | None = None,
  low: float = -math.inf,
  high: float = math.inf,
  below: float = math.inf,
  defines_run: bool = True,
) -> Any:
  """A field of a settings dataclass that is also a flag.

  Args:
    default: the default, whose type is that of the setting: bool, int, float
      or str.
    help: text for `--help`, with the unit.
    choices: the allowed values; None for any.
    low: the least allowed number.
    high: the greatest allowed number.
    below: a bound that a number must stay under.
    defines_run: whether runs that differ in it are different runs. False for
      paths and for what changes no result.

  Returns:
    A dataclass field.
  """
  limits = dict(choices=choices, low=low, high=high, below=below)
  metadata = dict(help=help, defines_run=defines_run, **limits)
  return dataclasses.field(default=default, metadata=metadata)


def define_flags(settings_class: Any) -> None:
  """Defines a flag for every setting, and the two gin flags."""
  for field in dataclasses.fields(settings_class):
    choices = field.metadata["choices"]
    text = field.metadata["help"]
    if choices:
      flags.DEFINE_enum(field.name, field.default, list(choices), text)
    else:
      DEFINERS[type(field.default)](field.name, field.default, text)
  define_gin_flags()


def define_gin_flags() -> None:
  """Defines the flags `gin_config` and `gin_bindings`, for `parse_gin`."""
  flags.DEFINE_multi_string("gin_config", [], "Paths of gin files to read.")
  flags.DEFINE_multi_string(
    "gin_bindings", [], "Gin bindings, which override those of the files."
  )


def read_flags(settings_class: Any) -> tuple[Any, frozenset[str]]:
  """Makes the settings from the parsed flags and gin.

  Args:
    settings_class: a gin-configurable dataclass made of `setting`s.

  Returns:
    The checked settings and the names of the flags that the user typed.

  Raises:
    ValueError: if a gin file or binding is wrong, or a setting is outside its
      range.
  """
  values = flags.FLAGS
  parse_gin(values.gin_config, values.gin_bindings)
  names = [field.name for field in dataclasses.fields(settings_class)]
  typed = frozenset(name for name in names if values[name].present)
  with gin.unlock_config():
    for name in typed:
      gin.bind_parameter(
        f"{settings_class.__name__}.{name}", values[name].value
      )
  settings = settings_class()
  check(settings)
  return settings, typed


def parse_gin(files: Iterable[str], bindings: Iterable[str]) -> None:
  """Reads gin files, whose includes are relative to them, and bindings.

  Args:
    files: paths.
    bindings: lines such as `SparseRigLOptimizer.noise_std = 0`.

  Raises:
    ValueError: if a file is missing or says something that is not known.
  """
  gin.clear_config()
  for path in files:
    if not os.path.exists(path):
      raise ValueError(f"`--gin_config`: there is no file {path!r}.")
    with _one_line_gin_errors(f"`--gin_config`: {path!r}"), _inside(path):
      gin.parse_config_file(os.path.basename(path))
  for binding in bindings:
    with _one_line_gin_errors(f"`--gin_bindings`: {binding!r}"):
      gin.parse_config(binding)
  with _one_line_gin_errors("`--gin_config`/`--gin_bindings`"):
    gin.finalize()  # Finds macros without a value.


@contextlib.contextmanager
def _inside(path: str) -> Iterator[None]:
  """Works in the directory of a file, where its includes are looked for."""
  before = os.getcwd()
  os.chdir(os.path.dirname(path) or ".")
  try:
    yield
  finally:
    os.chdir(before)


@contextlib.contextmanager
def _one_line_gin_errors(where: str) -> Iterator[None]:
  """Turns gin's errors into a ValueError of one line that names the place."""
  try:
    yield
  except (ValueError, SyntaxError, OSError, ImportError) as error:
    text = " ".join(str(error).split())
    line = (getattr(error, "text", None) or "").strip()
    raise ValueError(
      f"{where}: {text}" + (f" in {line!r}" if line else "")
    ) from error


def check(settings: Any) -> None:
  """Checks the type and range of every setting.

  Raises:
    ValueError: naming the setting, what is allowed and what came.
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
  low, high, below = (limits[name] for name in ("low", "high", "below"))
  if not (low <= value <= high and value < below and abs(value) < math.inf):
    end = f"{high}]" if high < math.inf else f"{below})"
    raise ValueError(f"`{field.name}` must be in [{low}, {end}, got {value}.")


def run_identity(settings: Any) -> dict[str, Any]:
  """What makes two runs the same: settings, and gin bindings of other things.

  Args:
    settings: a dataclass made of `setting`s.

  Returns:
    A dict that survives JSON.
  """
  identity = {}
  for field in dataclasses.fields(settings):
    if field.metadata["defines_run"]:
      # A float may have been given as an int, which JSON writes differently.
      kind: Any = type(field.default)
      identity[field.name] = kind(getattr(settings, field.name))
  own = type(settings).__name__ + "."
  bindings = [
    line
    for line in gin.config_str(max_line_length=10**6).splitlines()
    if line and not line.startswith(("#", own))
  ]
  return {**identity, "gin_bindings": bindings}


def configured(
  function: Any,
  typed: frozenset[str],
  flag_names: dict[str, str],
  **arguments: Any,
) -> Any:
  """Calls a gin-configurable with arguments that come from flags.

  An argument that gin binds on the function is left to gin, unless the user
  typed its flag.

  Args:
    function: the gin-configurable class or function.
    typed: names of the typed flags.
    flag_names: the flag of an argument, where it has another name.
    **arguments: arguments by name.

  Returns:
    What the function returns.
  """
  passed = {
    name: value
    for name, value in arguments.items()
    if flag_names.get(name, name) in typed or not _is_bound(function, name)
  }
  return function(**passed)


def _is_bound(function: Any, name: str) -> bool:
  try:
    gin.query_parameter(f"{function.__name__}.{name}")
  except ValueError:
    return False
  return True
