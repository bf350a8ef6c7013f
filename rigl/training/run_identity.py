# SPDX-License-Identifier: Apache-2.0
"""Run identity: what defines a run, and how two of them differ.

Two runs that differ in their length alone are the same up to the end of the
shorter one, because no schedule depends on the length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rigl import checks, file_contents, files

RUN_FILE = "run.json"
CHOICES = "choices"  # What a run chose by itself, in this file.
_BINDINGS = "gin_bindings"
# A setting that changes what came before, though it is about the length.
_STRETCH = "training_steps_multiplier"


def read(file: files.AnyPath) -> dict[str, Any]:
  """Reads the settings of a run.

  Args:
    file: its `run.json`.

  Raises:
    ValueError: if it is damaged.
  """
  return _part(file, "settings", None)


def read_choices(file: files.AnyPath) -> dict[str, Any]:
  """Reads what a run chose by itself; empty if it chose nothing.

  Args:
    file: its `run.json`.

  Raises:
    ValueError: if it is damaged.
  """
  read(file)
  return _part(file, CHOICES, {})


def _part(
  file: files.AnyPath, name: str, default: dict[str, Any] | None
) -> dict[str, Any]:
  try:
    record = file_contents.read_json(file)
    part: Any = record.get(name, default) if isinstance(record, dict) else None
    if not isinstance(part, dict):
      raise ValueError(f"it has no {name}")
  except ValueError as error:
    raise ValueError(
      f"`{file}` is damaged ({error}); choose another directory."
    ) from error
  return part


def differing(
  theirs: Mapping[str, Any], ours: Mapping[str, Any], length: str = ""
) -> list[str]:
  """The names of the settings that differ, other than the length.

  Args:
    theirs: the settings of one run.
    ours: the settings of another.
    length: the setting that says how long a run is. Empty: none.
  """
  return [
    name
    for name in sorted({*theirs, *ours})
    if name != length and theirs.get(name) != ours.get(name)
  ]


def described(
  names: list[str], theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> str:
  """The differences of two runs in words, as values there and now."""
  parts = []
  for name in names:
    there, now = theirs.get(name), ours.get(name)
    if name == _BINDINGS and there and now:
      there, now = (
        [line for line in there if line not in now],
        [line for line in now if line not in there],
      )
    parts.append(f"{name} = {_shown(there)} there, {_shown(now)} now")
  text = "; ".join(parts)
  if _STRETCH in names:
    text += f"; `{_STRETCH}` stretches the schedules, also what is done already"
  return text


def _shown(value: Any) -> str:
  return "the default" if value is None else repr(value)


def directory_name(name: str, identity: Mapping[str, Any]) -> str:
  """A name for the directory of a run that was given none.

  Args:
    name: the readable part.
    identity: the values that define the run; their hash follows the name.
  """
  text = json.dumps(identity, sort_keys=True)
  return f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def default_directory(
  runs: files.AnyPath, name: str, identity: Mapping[str, Any], length: str
) -> files.AnyPath:
  """The directory of a run that was given none.

  Args:
    runs: where such directories are.
    name: the readable part of its name.
    identity: the values that define the run.
    length: the setting that says how long the run is.

  Returns:
    That of the same run, or of a shorter one that it continues, or a new one.
  """
  own = runs / directory_name(name, identity)
  if (own / RUN_FILE).exists() or not runs.is_dir():
    return own
  ours = json.loads(json.dumps(dict(identity)))
  found: list[tuple[int, str]] = []
  directories: list[files.AnyPath] = [*runs.glob(f"{name}_*")]
  for directory in directories:
    file = directory / RUN_FILE
    if not file.exists():
      continue
    try:
      theirs = read(file)
    except ValueError:
      continue  # It is that of another run.
    steps: Any = theirs.get(length)
    is_shorter = checks.is_finite(steps) and steps <= ours[length]
    if is_shorter and not differing(theirs, ours, length):
      found.append((steps, str(directory)))
  return files.path(max(found)[1]) if found else own
