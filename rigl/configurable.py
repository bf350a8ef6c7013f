"""Gin-configurable functions and classes whose own errors carry no gin text.

Gin appends where it was called ("In call to configurable ...") to every error.
A caller from Python who configured nothing gets the error without it.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import gin

Target = TypeVar("Target", bound=Callable[..., Any])

# Attribute of an error: the error before gin appended its text.
_ORIGINAL = "_error_without_gin"


def configurable(
  *, module: str = "rigl", denylist: Sequence[str] | None = None
) -> Callable[[Target], Target]:
  """Decorator that lets gin bind the arguments of a function or class.

  Args:
    module: module of the gin name, `MODULE.NAME`.
    denylist: arguments that gin may not bind. None: it may bind all.

  Returns:
    The decorator. Type checkers see the function or class as it was.
  """
  register = gin.configurable(module=module, denylist=denylist)

  def decorate(target: Target) -> Target:
    name = target.__name__
    if isinstance(target, type):
      construct = target.__init__  # type: ignore[misc]
      target.__init__ = _note_original(construct)  # type: ignore[misc]
      register(target)
      construct = target.__init__  # type: ignore[misc]
      target.__init__ = _strip_gin(construct, name)  # type: ignore[misc]
      return target
    return _strip_gin(register(_note_original(target)), name)

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
    What the function returns.
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


def _binds_any(function: str) -> bool:
  """Whether gin binds an argument of the function in any scope."""
  binding = re.compile(rf"(?:.*[/.])?{re.escape(function)}\.\w+ = ")
  lines = gin.config_str(max_line_length=10**6).splitlines()
  return any(binding.match(line) for line in lines)


def _note_original(function: Any) -> Any:
  """Lets errors of the function remember themselves, below gin's wrapper."""

  @functools.wraps(function)
  def call(*args: Any, **kwargs: Any) -> Any:
    try:
      return function(*args, **kwargs)
    except Exception as error:
      setattr(error, _ORIGINAL, error)
      raise

  # Gin reads the arguments from here, and not through wrappers.
  call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
  return call


def _strip_gin(wrapped: Any, name: str) -> Any:
  """Raises the original errors unless gin bound an argument of `name`."""

  @functools.wraps(wrapped)
  def call(*args: Any, **kwargs: Any) -> Any:
    try:
      return wrapped(*args, **kwargs)
    except Exception as error:
      original = getattr(error, _ORIGINAL, None)
      if original is None or original is error or _binds_any(name):
        raise
      trace = error.__traceback__
      raise original.with_traceback(trace) from original.__cause__

  return call
