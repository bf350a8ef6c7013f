# SPDX-License-Identifier: Apache-2.0
"""A typed `gin.configurable` whose errors read like those of plain Python.

`gin.configurable` has no types, so a type checker takes a decorated class for
`Any`, and it appends "In call to configurable ..." to every error. The
decorator of this module keeps the type, and keeps gin's text only where gin
supplied an argument. It also compares the values that gin supplies with the
types of the arguments, because gin takes any.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import gin

T = TypeVar("T", bound=Callable[..., Any])


class _Unrecorded:
  """A default that gin cannot write, and so leaves out of its records."""


class _PlainError(Exception):
  """Carries an error through gin without gin's text.

  Args:
    error: the error to raise again outside of gin.
  """

  def __init__(self, error: Exception) -> None:
    super().__init__(str(error))
    self.error = error


def configurable(
  module: str = "rigl",
  denylist: Collection[str] = (),
  unrecorded: Collection[str] = (),
) -> Callable[[T], T]:
  """Returns a decorator that lets gin supply arguments that a caller omits.

  Args:
    module: module of the name in gin files, `module.NAME`.
    denylist: arguments that gin may not set.
    unrecorded: arguments that gin may set, but whose defaults the operative
      configuration does not list. So a new argument does not change the
      `operative_config.gin` of a run that does not use it.

  Returns:
    A decorator of classes and functions that keeps their type.

  Example:
    @configurable(denylist=["inner"])
    def make_optimizer(inner, learning_rate=0.1): ...
  """

  def decorate(target: T) -> T:
    options = dict(module=module, denylist=list(denylist) or None)
    if not inspect.isclass(target):
      inside = _inside_gin(target, f"{module}.{target.__name__}", unrecorded)
      bound = gin.configurable(target.__name__, **options)(inside)
      return _outside_gin(bound, bound)  # type: ignore[return-value]
    cls: Any = target
    init = cls.__init__
    cls.__init__ = _inside_gin(init, f"{module}.{cls.__name__}", unrecorded)
    gin.configurable(cls.__name__, **options)(cls)
    cls.__init__ = _outside_gin(cls.__init__, init)
    return target

  return decorate


def call_configured(
  function: Callable[..., Any], explicit: Collection[str], **arguments: Any
) -> Any:
  """Calls a gin-configurable, whose bindings win over some arguments.

  Args:
    function: the gin-configurable function or class.
    explicit: names of the arguments that win over gin, because the user chose
      their values on the command line.
    **arguments: the arguments. One that gin binds and that is not in
      `explicit` is left to gin.

  Returns:
    The result of the function.
  """
  passed = {
    name: value
    for name, value in arguments.items()
    if name in explicit or not _binds(function.__name__, name)
  }
  return function(**passed)


def _binds(function: str, argument: str) -> bool:
  try:
    gin.query_parameter(f"{function}.{argument}")
  except ValueError:
    return False
  return True


def _inside_gin(
  function: Callable[..., Any], selector: str, unrecorded: Collection[str]
) -> Callable[..., Any]:
  """Function that gin calls: marks errors that no binding of gin caused."""

  @functools.wraps(function)
  def call(*args: Any, **kwargs: Any) -> Any:
    bound = gin.get_bindings(selector, resolve_references=False)
    _check_types(
      function, selector, {n: kwargs[n] for n in bound if n in kwargs}
    )
    try:
      return function(*args, **kwargs)
    except Exception as error:
      if bound:
        raise
      raise _PlainError(error) from None

  signature = inspect.signature(function)
  unknown = set(unrecorded) - set(signature.parameters)
  if unknown:
    raise ValueError(
      f"`unrecorded` must name arguments of {selector}, got {sorted(unknown)}."
    )
  # Gin reads names and defaults of arguments from here.
  call.__signature__ = signature.replace(  # type: ignore[attr-defined]
    parameters=[
      p.replace(default=_Unrecorded()) if p.name in unrecorded else p
      for p in signature.parameters.values()
    ]
  )
  return call


def _check_types(
  function: Callable[..., Any], selector: str, values: Mapping[str, Any]
) -> None:
  """Raises ValueError if a value is not of the type of its argument."""
  hints = typing.get_type_hints(function) if values else {}
  for name, value in values.items():
    if name in hints and not _fits(value, hints[name]):
      hint = inspect.signature(function).parameters[name].annotation
      raise ValueError(
        f"{selector.rpartition('.')[2]}: `{name}` must be of type {hint}, got "
        f"{value!r}."
      )


def _fits(value: Any, hint: Any) -> bool:
  """Whether a value that gin can write is of a type; True for other types."""
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, one) for one in inner)
  if origin is typing.Literal:
    return any(type(value) is type(one) and value == one for one in inner)
  kind = origin or hint
  if kind in (int, float):
    accepted = (int, float) if kind is float else int
    return isinstance(value, accepted) and not isinstance(value, bool)
  if kind in (bool, str, types.NoneType):
    return isinstance(value, kind)
  if kind is Callable:
    return callable(value)
  if not inspect.isclass(kind):
    return True
  if issubclass(kind, Mapping):
    return isinstance(value, Mapping)
  if issubclass(kind, Iterable):
    of = inner[0] if inner else Any
    return isinstance(value, list | tuple) and all(_fits(v, of) for v in value)
  return True


def _outside_gin(
  bound: Callable[..., Any], shown: Callable[..., Any]
) -> Callable[..., Any]:
  """Function that users call: raises marked errors unchanged.

  Args:
    bound: the function that gin made.
    shown: the function whose signature and documentation are shown.
  """

  @functools.wraps(shown)
  def call(*args: Any, **kwargs: Any) -> Any:
    try:
      return bound(*args, **kwargs)
    except _PlainError as plain:
      error = plain.error
    raise error

  return call
