# SPDX-License-Identifier: Apache-2.0
"""The text of `--help`: an example command and the flags by group."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Any

from absl import flags

# Headings in their order; flags without a group come under "Flags".
GROUPS = {
  "run": "Run",
  "data": "Data",
  "model": "Model",
  "method": "Sparse training method",
  "schedule": "Training schedule and optimizer",
  "output": "Output",
  "devices": "Devices",
  "": "Flags",
  "gin": "Configuration files",
  "ignored": "Flags without effect",
}
_WIDTH = 100
_COLUMN = 34
_ABSL = re.compile(r"^<[^>]*>: |; repeat this option to specify a list.*")


def set_group(name: str, group: str, alias: str | None = None) -> None:
  """Sets the group of a defined flag.

  Args:
    name: name of the flag.
    group: a key of `GROUPS`.
    alias: another name of the flag, listed with it. None: it has none.
  """
  flag: Any = flags.FLAGS[name]
  flag.help_group, flag.help_alias = group, alias
  if alias:
    other: Any = flags.FLAGS[alias]
    other.help_group = None


def help_text(docstring: str, names: Iterable[str]) -> str:
  """Makes the text of `--help`.

  Args:
    docstring: docstring of the script's module. The first two paragraphs are
      shown: a sentence and an example command.
    names: the names of the flags to list.

  Returns:
    Lines of at most 100 characters.
  """
  listed: dict[str, list[str]] = {group: [] for group in GROUPS}
  for name in names:
    flag: Any = flags.FLAGS[name]
    group = getattr(flag, "help_group", "")
    if group is not None:
      listed[group].append(_entry(flag))
  sentence, command, *_ = [*docstring.strip().split("\n\n"), "", ""]
  opening = f"{sentence}\n\n{_example(command)}"
  sections = [
    "\n".join([f"{GROUPS[group]}:", *entries])
    for group, entries in listed.items()
    if entries
  ]
  more = "  --helpfull shows the flags of all libraries, too."
  return "\n\n".join([opening, *sections, more]) + "\n"


def _example(command: str) -> str:
  """The example command, over several lines if it is long."""
  if not command.startswith(" "):
    return textwrap.fill(" ".join(command.split()), _WIDTH)
  words = command.replace("\\\n", " ").split()
  lines = textwrap.wrap(
    " ".join(words),
    _WIDTH - 2,
    initial_indent="  ",
    subsequent_indent="    ",
    break_long_words=False,
    break_on_hyphens=False,
  )
  return " \\\n".join(lines)


def _entry(flag: Any) -> str:
  """One flag: its name and default, and its text beside them."""
  name = f"  --{_shown(flag)}"
  # Without what absl adds to texts of choices and of flags to repeat.
  text = _ABSL.sub("", " ".join((flag.help or "").split()))
  if isinstance(flag, flags.MultiFlag):
    text += " May be given several times."
  choices = getattr(flag.parser, "enum_values", None)
  if choices and not all(choice in text for choice in choices if choice):
    text += f" One of {', '.join(filter(None, choices))}."
  if getattr(flag, "help_alias", None):
    text += f" Also --{flag.help_alias}."
  lines = textwrap.wrap(text, _WIDTH - _COLUMN, break_on_hyphens=False)
  if len(name) > _COLUMN - 2:
    lines.insert(0, "")
  first, *rest = lines or [""]
  indent = " " * _COLUMN
  return "\n".join(
    line.rstrip()
    for line in (name.ljust(_COLUMN) + first, *(indent + r for r in rest))
  )


def _shown(flag: Any) -> str:
  """Name and default, `NAME=` without one."""
  if flag.boolean and flag.default is not None:
    return f"{flag.name}={str(bool(flag.default)).lower()}"
  if flag.default is None or flag.default == [] or flag.default == "":
    return f"{flag.name}="
  if isinstance(flag.default, list):
    return f"{flag.name}={','.join(flag.default)}"
  return f"{flag.name}={flag.default}"
