# SPDX-License-Identifier: Apache-2.0
"""Unreported work: what a stopped run did since its last report.

A run may be stopped between two reports, or before the events of its position
are done. A checkpoint does not hold the sums for the next report. They go to a
file of their own, so that the resumed run writes the same report as a run that
was not stopped.
"""

from __future__ import annotations

import dataclasses
import json
import logging

from rigl import checks, file_contents, files
from rigl.types import Metrics

_FILE = "unreported.json"


@dataclasses.dataclass
class Unreported:
  """Sums since the last report, and events that are left at this position.

  Attributes:
    steps: gradient steps since the last report whose metrics are known.
    metrics: sums of the metrics over these steps.
    mask_changed: sum of the shares of connections whose mask changed; None if
      it is not known.
    seconds: how long these steps took.
    next_event: number of the first event of this position that is not done.
      None: no event is left.
    is_reported: whether the report of this position is written.
  """

  steps: int = 0
  metrics: Metrics = dataclasses.field(default_factory=dict)
  mask_changed: float | None = None
  seconds: float = 0.0
  next_event: int | None = None
  is_reported: bool = False

  @property
  def is_empty(self) -> bool:
    """Whether there is nothing to report and no event left."""
    nothing = not self.steps and self.mask_changed is None
    return nothing and self.next_event is None

  def add(
    self, steps: int, metrics: Metrics, mask_changed: float | None
  ) -> None:
    """Adds the results of one call of the executor.

    Args:
      steps: its gradient steps.
      metrics: sums over them; empty if the executor brings none back.
      mask_changed: share of the connections whose mask changed.
    """
    if metrics:
      self.steps += steps
    for name, value in metrics.items():
      self.metrics[name] = self.metrics.get(name, 0.0) + value
    if mask_changed is not None:
      self.mask_changed = (self.mask_changed or 0.0) + mask_changed


def save(directory: files.Path, iteration: int, found: Unreported) -> None:
  """Writes the file; call it before the checkpoint of the same iteration."""
  record = {"iteration": iteration, **dataclasses.asdict(found)}
  files.write_text(
    files.path(directory) / _FILE, json.dumps(record, indent=2) + "\n"
  )


def remove(directory: files.Path) -> None:
  """Removes the file; call it before a checkpoint that needs none."""
  (files.path(directory) / _FILE).unlink(missing_ok=True)


def load(directory: files.Path, iteration: int) -> Unreported:
  """Reads what a stopped run did not report.

  Args:
    directory: the directory of the run.
    iteration: the iteration of the checkpoint that the run resumes from. The
      file of another iteration does not belong to it.

  Returns:
    The content. It is empty if there is no such file; if it is damaged, that
    is logged, and the next report lacks the steps before the stop.
  """
  file = files.path(directory) / _FILE
  if not file.exists():
    return Unreported()
  try:
    record = file_contents.read_json(file)
    if not isinstance(record, dict) or "iteration" not in record:
      raise ValueError("it has no iteration")
    if int(record.pop("iteration")) != iteration:
      return Unreported()
    found = Unreported(**record)
    _check(found)
  except (ValueError, TypeError, OverflowError) as error:
    copy = files.set_aside(file)
    logging.warning(
      "`%s` is damaged (%s) and now `%s`: the next report lacks the steps "
      "before the stop.",
      file,
      error,
      copy.name,
    )
    return Unreported()
  return found


def _check(found: Unreported) -> None:
  if not isinstance(found.metrics, dict):
    raise ValueError("`metrics` is no JSON object")
  numbers = [found.steps, found.seconds, *found.metrics.values()]
  if found.mask_changed is not None:
    numbers.append(found.mask_changed)
  if not all(map(checks.is_finite, numbers)):
    raise ValueError("a value is no finite number")
  checks.check_integer("steps", found.steps, 0)
  if found.next_event is not None:
    checks.check_integer("next_event", found.next_event, 0)
  if not isinstance(found.is_reported, bool):
    raise ValueError("`is_reported` is neither true nor false")
