# SPDX-License-Identifier: Apache-2.0
"""Docstrings of classes that take the arguments of their base classes.

A class describes the arguments that it adds, or that mean more in it. Those of
its base classes are added when the class is made, so that every description
stands in one file and `help` shows all of them.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

_ARGUMENTS = "Args:"
_LATER = ("Raises:", "Example:")  # Sections below that of the arguments.
# The type in parentheses is of other packages' style.
_ENTRY = re.compile(r"(\*{0,2}\w+)(?: ?\(.*\))?:")
_STARS: dict[Any, str] = {
  inspect.Parameter.VAR_POSITIONAL: "*",
  inspect.Parameter.VAR_KEYWORD: "**",
}


def describe_inherited_arguments(cls: type) -> None:
  """Adds the descriptions of inherited arguments to the docstring of a class.

  Args:
    cls: the class. Without a docstring of its own, or with arguments that
      Python cannot tell, it stays as it is.
  """
  text = vars(cls).get("__doc__")
  if not text or not isinstance(text, str):
    return
  try:
    parameters = inspect.signature(cls).parameters.values()
  except (TypeError, ValueError):
    return
  names = [_STARS.get(each.kind, "") + each.name for each in parameters]
  texts = [base.__doc__ for base in cls.__mro__[1:]]
  bases = [base for base in texts if isinstance(base, str)]
  cls.__doc__ = with_inherited_arguments(text, names, bases)


def with_inherited_arguments(
  text: str, names: Sequence[str], bases: Iterable[str]
) -> str:
  """A docstring that describes inherited arguments as well.

  Args:
    text: the docstring. Without a section `Args` it gets one above `Raises` and
      `Example`, or at its end.
    names: the arguments in their order, with their stars.
    bases: docstrings of the base classes, the nearest first.

  Returns:
    The docstring without indentation.
  """
  above, own, below = _split(text)
  found = own
  for base in bases:
    found = _split(base)[1] | found
  known = [name for name in names if name in found]
  known += [name for name in own if name not in known]
  entries = [line for name in known for line in found[name]]
  parts = [above, [_ARGUMENTS, *entries] if entries else [], below]
  return "\n\n".join("\n".join(part).strip("\n") for part in parts if part)


def _split(text: str) -> tuple[list[str], dict[str, list[str]], list[str]]:
  """The lines above the arguments, {argument: its lines}, the lines below."""
  lines = inspect.cleandoc(text).splitlines()
  sections = [_ARGUMENTS] if _ARGUMENTS in lines else _LATER
  starts = [place for place, line in enumerate(lines) if line in sections]
  start = starts[0] if starts else len(lines)
  if _ARGUMENTS not in lines:
    return lines[:start], {}, lines[start:]
  end = start + 1
  while end < len(lines) and (not lines[end] or lines[end].startswith(" ")):
    end += 1
  entries: dict[str, list[str]] = {}
  name = ""
  for line in textwrap.dedent("\n".join(lines[start + 1 : end])).splitlines():
    entry = _ENTRY.match(line)
    name = entry[1] if entry else name
    if line:
      entries.setdefault(name, []).append(f"  {line}")
  return lines[:start], entries, lines[end:]
