# SPDX-License-Identifier: Apache-2.0
"""Griffe extension: shows the inherited arguments of the sparse optimizers.

mkdocs.yml loads it. The site reads the sources without running them, so that
`rigl.docstrings`, which completes the docstrings of classes, has not done so.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import griffe

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from rigl.docstrings import with_inherited_arguments  # noqa: E402

# The classes at which `rigl.docstrings` begins.
_ROOT = "WrappingOptimizer"
_STARS = {
  griffe.ParameterKind.var_positional: "*",
  griffe.ParameterKind.var_keyword: "**",
}


class InheritedArguments(griffe.Extension):
  """Adds the descriptions of inherited arguments to docstrings of classes."""

  def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
    """Rewrites the docstring of one class."""
    bases = cls.mro()
    if cls.docstring is None or all(base.name != _ROOT for base in bases):
      return
    texts = [base.docstring.value for base in bases if base.docstring]
    cls.docstring.value = with_inherited_arguments(
      cls.docstring.value, _arguments([cls, *bases]), texts
    )


def _arguments(classes: list[griffe.Class]) -> list[str]:
  """The arguments of a constructor, with their stars.

  Args:
    classes: the class and its bases, in the order of inheritance.
  """
  for each in classes:
    init = each.members.get("__init__")
    if isinstance(init, griffe.Function):
      return [
        _STARS.get(parameter.kind, "") + parameter.name
        for parameter in list(init.parameters)[1:]
      ]
  return []
