# SPDX-License-Identifier: Apache-2.0
"""Docstrings with inherited arguments: what is added, in which order."""

import ast
import pathlib
import re

import pytest

from rigl import docstrings

ROOT = pathlib.Path(__file__).resolve().parent.parent

BASE = """A base.

  Args:
    size: the size of
      the base.
    name: its name.
    **options: more.
  """


class Base:
  __doc__ = BASE

  def __init__(self, size, name="", **options):
    del size, name, options

  def __init_subclass__(cls):
    docstrings.describe_inherited_arguments(cls)


class Described(Base):
  """A class.

  Args:
    depth: its depth.
    name: a name,

      or none.

  Raises:
    ValueError: never.
  """

  def __init__(self, size, depth, name=""):
    super().__init__(size, name, depth=depth)


class Plain(Described):
  """A class without new arguments.

  Example:
    >>> Plain(1, 2)
  """


class Bare(Described):
  pass


def test_inherited_arguments_are_added_in_the_order_of_the_constructor():
  assert Described.__doc__ == (
    "A class.\n\nArgs:\n  size: the size of\n    the base.\n"
    "  depth: its depth.\n  name: a name,\n    or none.\n\n"
    "Raises:\n  ValueError: never."
  )


def test_a_class_without_new_arguments_gets_those_of_the_nearest_base():
  text = Described.__doc__
  arguments = text[text.index("Args:") : text.index("\n\nRaises")]
  assert Plain.__doc__ == (
    "A class without new arguments.\n\n"
    f"{arguments}\n\nExample:\n  >>> Plain(1, 2)"
  )


def test_a_class_without_a_docstring_stays_without_one():
  assert vars(Bare)["__doc__"] is None


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("One line.", "One line.\n\nArgs:\n  **options: more."),
    # Nothing that a user wrote is lost.
    (
      "A class.\n\n  Args:\n    See the paper.\n  Note:\n    It is slow.",
      "A class.\n\nArgs:\n  **options: more.\n  See the paper.\n\n"
      "Note:\n  It is slow.",
    ),
    (
      "A class.\n\n  Args:\n    other: an argument of another name.\n",
      "A class.\n\nArgs:\n  **options: more.\n"
      "  other: an argument of another name.",
    ),
    # The style of other packages: four spaces, and types.
    (
      "A class.\n\nArgs:\n    **options (dict, optional): mine,\n"
      "        and more.\n    depth (int): its depth.\n\nReturns:\n    It.",
      "A class.\n\nArgs:\n  **options (dict, optional): mine,\n"
      "      and more.\n  depth (int): its depth.\n\nReturns:\n    It.",
    ),
  ],
)
def test_docstrings_of_other_forms_keep_their_text(text, expected):
  names = ["missing", "**options"]
  assert docstrings.with_inherited_arguments(text, names, [BASE]) == expected


def described(package):
  """{class: (names of its bases, {argument: its description})}, by source."""
  found = {}
  for path in sorted((ROOT / "rigl" / package).glob("*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ClassDef):
        text = ast.get_docstring(node) or ""
        section = text.partition("\nArgs:\n")[2].partition("\n\n")[0]
        entries = re.split(r"^  (?=\*{0,2}\w+:)", section, flags=re.M)
        found[node.name] = (
          [base.id for base in node.bases if isinstance(base, ast.Name)],
          {each.partition(":")[0]: each.strip() for each in entries if each},
        )
  return found


def inherited(name, classes):
  """The descriptions that a class inherits, the nearest for each argument."""
  bases, _ = classes.get(name, ([], {}))
  arguments = {}
  for base in reversed(bases):
    _, own = classes.get(base, ([], {}))
    arguments |= inherited(base, classes) | own
  return arguments


class Unreadable:
  """Python cannot tell the arguments of its classes."""

  __signature__ = "none"


class Computed:
  __doc__ = property(lambda self: "text")


@pytest.mark.parametrize("mixin", [Unreadable, Computed])
def test_a_class_that_cannot_be_read_stays_as_it_is(mixin):
  made = type("Made", (mixin, Base), dict(vars(mixin)))
  assert vars(made)["__doc__"] is vars(mixin)["__doc__"]
  assert type("Derived", (made,), {"__doc__": "A class."}).__doc__


@pytest.mark.parametrize("package", ["sparse_optimizers", "keras"])
def test_no_optimizer_repeats_the_description_of_a_base(package):
  classes = described(package)
  assert len(inherited("DropGrowOptimizer", classes)) >= 8
  repeated = [
    (name, argument)
    for name, (_, own) in classes.items()
    for argument, text in own.items()
    if inherited(name, classes).get(argument) == text
  ]
  assert not repeated
