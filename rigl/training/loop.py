"""The loop of a run: runs the compiled programs from event to event.

The host knows every coming event (mask update, evaluation, checkpoint, record,
end) and makes all gradient steps up to the next one in one call.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigl.distribution import replicas
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training import checkpoints, files
from rigl.training.base_programs import BasePrograms
from rigl.training.progress import Progress
from rigl.types import Variable

ITERATION = "iteration"  # Its name in checkpoints.
# Of one call, so that it does not take long to stop a run.
_MOST_STEPS = 100


@dataclass(frozen=True)
class Report:
  """What the loop found at a point of the run.

  Attributes:
    iteration: iterations so far: gradient steps, and mask updates that took
      the place of one.
    step: gradient steps so far.
    train: means of the metrics over the gradient steps since the report
      before, and the state of the training.
    test: means of the metrics over the test examples; empty where only the
      training is reported.
    timing: `steps_per_second` since the report before, if the loop is timed.
  """

  iteration: int
  step: int
  train: dict[str, float]
  test: dict[str, float]
  timing: dict[str, float]


@dataclass(frozen=True)
class Event:
  """Something that happens every so often.

  Attributes:
    every: iterations (or steps, see `Loop`) between two; 0 for never.
    action: gets the position in the run.
    at_start: whether it also happens before the first iteration.
    at_end: whether it also happens after the last.
  """

  every: int
  action: Callable[[int], None]
  at_start: bool = False
  at_end: bool = False

  def left(self, position: int) -> float:
    """How far it is to the next time, at least 1."""
    return self.every - position % self.every if self.every else math.inf

  def is_due(self, position: int, total: int) -> bool:
    """Whether it happens here, of a run of this length."""
    if not self.every:
      return False
    return position % self.every == 0 or (self.at_end and position == total)


class TrainingDivergedError(RuntimeError):
  """A metric is not finite any more."""


class Loop:
  """Trains and evaluates; a resumed run goes on with the same bits.

  The position in the run counts iterations, or, with `by_steps`, gradient
  steps: mask updates that take the place of a step then come on top.

  Args:
    programs: the compiled programs.
    optimizer: the sparse optimizer that they use.
    global_step: int64 variable that gradient steps advance.
    variables: the model's variables by name; with those of the optimizer
      they are what a checkpoint holds.
    report_every: how far reports are apart; 0 for none. The end of the run
      is reported as well.
    on_report: gets what is reported.
    evaluate_every: how far reports are apart that evaluate, as the one at the
      end does. None: all do; 0: none.
    by_steps: what positions count.
    adapt: makes what this loop needs of the tensors of a checkpoint that
      another program may have written. None: they are taken as they are.
    is_stopped: whether `run` is to return before its end; it is asked after
      every call of a program, on all hosts alike.

  Attributes:
    iteration: number of iterations so far.
    last: the last report with an evaluation.
    is_timed: whether reports say how fast it went.
  """

  def __init__(
    self,
    programs: BasePrograms,
    optimizer: SparseOptimizer,
    global_step: Variable,
    variables: dict[str, Variable],
    report_every: int,
    on_report: Callable[[Report], None],
    evaluate_every: int | None = None,
    by_steps: bool = False,
    adapt: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
  ) -> None:
    self._is_stopped = is_stopped
    self._adapt = adapt or (lambda tensors: tensors)
    self._programs, self._optimizer = programs, optimizer
    self._global_step = global_step
    self._variables = {
      **variables,
      **optimizer.state(),
      "global_step": global_step,
    }
    self._on_report = on_report
    self._evaluation = Event(
      report_every if evaluate_every is None else evaluate_every,
      lambda _: None,
      at_end=True,
    )
    self._events = [
      Event(report_every, self._report, at_end=True),
      dataclasses.replace(self._evaluation, action=self._report),
    ]
    self._reported_at = -1
    self._by_steps = by_steps
    self._sums: dict[str, float] = {}
    self._steps, self._changed = 0, 0.0
    self._since = time.monotonic()
    self._total = 0
    self.iteration = 0
    self.last: Report | None = None
    self.is_timed = True

  def add_event(
    self,
    every: int,
    action: Callable[[int], None],
    at_start: bool = False,
    at_end: bool = False,
  ) -> None:
    """Adds an action; those of one position run in the order of adding.

    Args:
      every: how far two are apart; 0 for never.
      action: gets the position.
      at_start: whether it also happens before the first iteration.
      at_end: whether it also happens after the last.
    """
    self._events.append(Event(every, action, at_start, at_end))

  def report_also(self, every: int) -> None:
    """Adds reports, without an evaluation, this far apart; 0 for none."""
    self._events.insert(0, Event(every, self._report))

  @property
  def position(self) -> int:
    """How far the run is, in what positions count."""
    return int(self._global_step.numpy()) if self._by_steps else self.iteration

  def save(self, directory: files.Path, keep: int = 2) -> str:
    """Writes a checkpoint; call it right after a report.

    What was added up for the next report would be lost.

    Args:
      directory: where to.
      keep: how many checkpoints to keep; 0 keeps all.

    Returns:
      The prefix of the checkpoint.
    """
    tensors = {**self._variables, **self._optimizer.checkpoint_state()}
    tensors[ITERATION] = np.int64(self.iteration)
    # Every host reads the variables, which may need all of them.
    return checkpoints.save(
      directory, self.position, tensors, keep, replicas.is_chief()
    )

  def restore(self, directory: files.Path) -> bool:
    """Restores the newest checkpoint; returns whether there was one.

    Raises:
      ValueError: if it is damaged or does not fit.
    """
    tensors = checkpoints.load_latest(directory)
    if tensors is None:
      return False
    self._restore(tensors, directory)
    return True

  def load(self, prefix: str) -> None:
    """Restores one checkpoint.

    Raises:
      FileNotFoundError: if it does not exist.
      ValueError: if it is damaged or does not fit.
    """
    self._restore(checkpoints.load_present(prefix), prefix)

  def _restore(self, tensors: dict[str, Any], place: files.Path) -> None:
    tensors = self._adapt(tensors)
    if ITERATION not in tensors:
      raise ValueError(
        f"`{place}` holds a checkpoint that is not of this loop: {ITERATION} "
        "is missing."
      )
    checkpoints.restore(tensors, self._variables)
    self.iteration = int(tensors[ITERATION])

  def run(self, total: int, progress: Progress) -> None:
    """Trains up to a position, or until it is stopped after a report."""
    self._since, self._total = time.monotonic(), total
    position = self.position
    for event in self._events:
      if position == 0 and event.at_start and event.is_due(0, total):
        event.action(0)
    while position < total:
      before, position = position, self._advance(position)
      progress.advance(position - before)
      for event in self._events if position > before else ():
        if event.is_due(position, total):
          event.action(position)
      if position < total and self._is_stopped():
        self._report(position)  # A checkpoint does not hold its sums.
        return

  def _advance(self, position: int) -> int:
    """Runs the next program or two; returns the new position."""
    optimizer, step = self._optimizer, int(self._global_step.numpy())
    to_update = optimizer.steps_to_update(step)
    if to_update == 0:
      self._changed += self._programs.update_masks(self.iteration)
      self.iteration += 1
      return position if self._by_steps else position + 1
    limits = [event.left(position) for event in self._events]
    limits += [self._total - position, _MOST_STEPS]
    limits += [self._programs.steps_left(self.iteration)]
    count = int(min(to_update or math.inf, *limits))
    self._train(count)
    if count == to_update and not optimizer.update_is_iteration:
      self._changed += self._programs.update_masks(self.iteration - 1)
    return position + count

  def _train(self, count: int) -> None:
    sums = self._programs.train_steps(self.iteration, count)
    self._check_finite(sums, self.iteration, self.iteration + count)
    for name, value in sums.items():
      self._sums[name] = self._sums.get(name, 0.0) + value
    self._steps += count
    self.iteration += count

  def _check_finite(
    self, metrics: dict[str, float], first: int, last: int
  ) -> None:
    for name, value in metrics.items():
      if not math.isfinite(value):
        raise TrainingDivergedError(
          f"`{name}` became {value} between iterations {first} and {last}; "
          "lower the learning rate."
        )

  def _report(self, position: int) -> None:
    if position == self._reported_at:
      return  # It is due by both distances.
    self._reported_at = position
    step = int(self._global_step.numpy())
    seconds = time.monotonic() - self._since
    steps = max(self._steps, 1)
    means = {name: value / steps for name, value in self._sums.items()}
    means["drop_fraction"] = float(self._optimizer.drop_fraction_at(step))
    means["mask_changed"] = self._changed
    means.update(self._programs.inspect())
    timing = {}
    if self.is_timed:
      timing["steps_per_second"] = self._steps / max(seconds, 1e-9)
    test: dict[str, float] = {}
    if self._evaluation.is_due(position, self._total):
      test = self._programs.evaluate()
      # Before it is reported and saved: the weights are one step further than
      # the metrics of the training.
      self._check_finite(test, self.iteration - 1, self.iteration)
    report = Report(self.iteration, step, means, test, timing)
    self._sums, self._steps, self._changed = {}, 0, 0.0
    if test:
      self.last = report
    self._on_report(report)
    self._since = time.monotonic()
