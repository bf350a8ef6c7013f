# SPDX-License-Identifier: Apache-2.0
"""Checkpoint and model flags of a run of this package, from its directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rigl import files
from rigl.formats import compact
from rigl.mnist.input_mask import PIXELS
from rigl.predict.tasks import TASKS, PredictTask
from rigl.training import checkpoints, run_directory


@dataclasses.dataclass(frozen=True)
class RunFlags:
  """What a checkpoint and the run that wrote it say.

  Attributes:
    prefix: prefix of the checkpoint.
    task: name of the task; None if there is no run.
    values: values of the model's flags by name.
    gin_bindings: bindings that the run was given.
    settings: all that defines the run, by name.
  """

  prefix: str
  task: str | None = None
  values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  gin_bindings: tuple[str, ...] = ()
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_run(checkpoint: str) -> RunFlags:
  """Reads the flags of the run that a checkpoint belongs to.

  Args:
    checkpoint: directory of a run, of which the newest checkpoint is taken, or
      the prefix of a checkpoint. `run.json` beside it may be missing. A compact
      file holds its flags itself.

  Raises:
    ValueError: if a directory has no checkpoint, or `run.json` or a compact
      file is damaged or of no task of this package.
  """
  place, prefix = files.path(checkpoint, "checkpoint"), checkpoint
  if compact.is_compact(place):
    return _of_compact(checkpoint)
  directory = place.parent
  if not checkpoints.exists(checkpoint) and place.is_dir():
    numbers = checkpoints.list_numbers(place)
    if not numbers:
      raise ValueError(
        f"`checkpoint`: {checkpoint!r} holds no checkpoint model.ckpt-NUMBER."
      )
    directory, prefix = place, str(place / checkpoints.name_of(numbers[-1]))
  settings = run_directory.read_settings(directory)
  if settings is None:
    return RunFlags(prefix)
  names = [n for n, task in TASKS.items() if _recorded(task) <= set(settings)]
  if len(names) != 1:
    raise ValueError(
      f"`checkpoint`: the run in {str(directory)!r} is of no task that "
      f"predicts, {[*TASKS]}."
    )
  task = TASKS[names[0]]
  values = {name: settings[name] for name in task.flags if name in settings}
  bindings = settings.get("gin_bindings", [])
  if not isinstance(bindings, list) or not all(
    isinstance(line, str) for line in bindings
  ):
    raise ValueError(
      f"`checkpoint`: `run.json` in {str(directory)!r} is damaged: "
      "`gin_bindings` is no list of lines."
    )
  return RunFlags(prefix, names[0], values, tuple(bindings), settings)


def _of_compact(place: str) -> RunFlags:
  """What a compact file says."""
  try:
    file = compact.CompactFile(place)
  except ValueError as error:
    raise ValueError(f"`checkpoint`: {error}") from error
  name = file.metadata.get("task")
  if name not in TASKS:
    raise ValueError(
      f"`checkpoint`: the network in {place!r} is of no task that predicts, "
      f"{[*TASKS]}."
    )
  recorded = file.metadata.get("flags", {})
  values = {k: v for k, v in recorded.items() if k in TASKS[name].flags}
  if PIXELS in file.names:
    values["input_mask_path"] = place
  bindings = tuple(file.metadata.get("gin_bindings", ()))
  return RunFlags(place, name, values, bindings, file.metadata)


def _recorded(task: PredictTask) -> set[str]:
  """The flags of a task that its runs record."""
  return {
    field.name
    for field in dataclasses.fields(task.settings)
    if field.name in task.flags
    and field.metadata["defines_run"]
    and not field.metadata["added"]
  }
