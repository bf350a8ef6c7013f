# SPDX-License-Identifier: Apache-2.0
"""Loop: advances an executor from event to event.

It knows every coming event (report, evaluation, checkpoint, end) and asks the
executor for all iterations up to the next one. It knows neither the devices
nor the schedule of mask updates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rigl.training.executor import Executor, Progress
from rigl.training.train_state import TrainState
from rigl.types import Metrics

ITERATIONS, STEPS = "iteration", "step"


@dataclass(frozen=True)
class Intervals:
  """Distances between events, in positions of the run.

  Attributes:
    total: position of the end.
    report: distance of reports; 0 for none. The end is reported as well.
    evaluate: distance of reports that evaluate, as the one at the end does.
      None: all reports do. 0: none.
    save: distance of checkpoints; one more is written at the end. 0 for none.
      Each is preceded by a report, because a checkpoint does not hold the
      sums for the next report.
    unit: what positions count: iterations, or gradient steps. Mask updates
      that take the place of a step then come on top.
  """

  total: int
  report: int
  evaluate: int | None = None
  save: int = 0
  unit: str = ITERATIONS


@dataclass(frozen=True)
class Report:
  """Measurements at one position of the run.

  Attributes:
    iteration: iterations so far.
    step: gradient steps so far.
    train: means of the metrics over the gradient steps since the report
      before, and metrics of the state.
    test: means of the metrics over the test examples; empty in a report
      without evaluation.
    timing: `steps_per_second` since the report before, if the executor brings
      metrics of the steps back.
  """

  iteration: int
  step: int
  train: Metrics
  test: Metrics
  timing: Metrics


@dataclass(frozen=True)
class Event:
  """An action that is repeated at a distance.

  Attributes:
    every: distance, in positions; 0 for never.
    action: gets the position.
    at_start: whether it also happens before the first iteration.
    at_end: whether it also happens after the last.
    name: the setting that `every` comes from, for error messages.
  """

  every: int
  action: Callable[[int], None]
  at_start: bool = False
  at_end: bool = False
  name: str = ""

  def left(self, position: int) -> float:
    """Distance to the next time, at least 1."""
    return self.every - position % self.every if self.every else math.inf

  def is_due(self, position: int, total: int) -> bool:
    """Whether it happens at this position of a run of this length."""
    if not self.every:
      return False
    return position % self.every == 0 or (self.at_end and position == total)


class TrainingDivergedError(RuntimeError):
  """A metric is not finite any more."""


@dataclass
class _Sums:
  """Sums since the last report."""

  steps: int = 0
  metrics: Metrics = field(default_factory=dict)
  mask_changed: float | None = None

  def add(self, progress: Progress) -> None:
    """Adds the results of one call of the executor."""
    self.steps += progress.steps
    for name, value in progress.sums.items():
      self.metrics[name] = self.metrics.get(name, 0.0) + value
    if progress.mask_changed is not None:
      self.mask_changed = (self.mask_changed or 0.0) + progress.mask_changed


class Loop:
  """Trains and evaluates; a resumed run ends with the same bits.

  At one position the order is: report, events, checkpoint.

  Args:
    executor: trains and evaluates.
    state: the train state; the loop counts its iterations.
    intervals: distances between events.
    on_report: gets every report.
    on_save: writes a checkpoint. None: none is written.
    events: further actions, which run in this order.
    is_stopped: whether `run` shall return before its end. It is asked after
      every call of the executor, on all hosts alike.

  Attributes:
    last: the last report with an evaluation.
  """

  def __init__(
    self,
    executor: Executor,
    state: TrainState,
    intervals: Intervals,
    on_report: Callable[[Report], None],
    on_save: Callable[[], None] | None = None,
    events: Sequence[Event] = (),
    is_stopped: Callable[[], bool] = lambda: False,
  ) -> None:
    self._executor, self._state = executor, state
    self._intervals, self._on_report = intervals, on_report
    self._is_stopped = is_stopped
    evaluate = intervals.evaluate
    self._evaluation = Event(
      intervals.report if evaluate is None else evaluate,
      self._report,
      at_end=True,
    )
    self._events = [
      Event(intervals.save, self._report),
      Event(intervals.report, self._report, at_end=True),
      self._evaluation,
      *events,
    ]
    if on_save is not None:
      save = on_save
      self._events.append(Event(intervals.save, lambda _: save(), at_end=True))
    self._reported_at, self._total = -1, intervals.total
    self._sums, self._since = _Sums(), time.monotonic()
    self.last: Report | None = None

  @property
  def position(self) -> int:
    """How far the run is, in iterations or steps."""
    by_steps = self._intervals.unit == STEPS
    return self._state.step if by_steps else self._state.iteration

  def run(
    self, total: int, on_advance: Callable[[int], None] = lambda _: None
  ) -> None:
    """Trains up to a position, or until it is stopped after a report.

    Args:
      total: the position.
      on_advance: gets the number of positions after each call of the executor.
    """
    self._since, self._total = time.monotonic(), total
    position = self.position
    for event in self._events:
      if position == 0 and event.at_start and event.is_due(0, total):
        event.action(0)
    while position < total:
      limit = min(event.left(position) for event in self._events)
      limit = int(min(limit, total - position))
      first = self._state.iteration
      progress = self._executor.advance(first, limit)
      self._state.iteration = last = first + progress.iterations
      self._check_finite(progress.sums, first, last)
      self._sums.add(progress)
      before, position = position, self.position
      on_advance(position - before)
      for event in self._events if position > before else ():
        if event.is_due(position, total):
          event.action(position)
      if position < total and self._is_stopped():
        self._report(position)  # A checkpoint does not hold its sums.
        return

  def _check_finite(self, metrics: Metrics, first: int, last: int) -> None:
    for name, value in metrics.items():
      if not math.isfinite(value):
        raise TrainingDivergedError(
          f"`{name}` became {value} between iterations {first} and {last}; "
          "lower the learning rate."
        )

  def _report(self, position: int) -> None:
    if position == self._reported_at:
      return  # It is due by more than one distance.
    self._reported_at = position
    state, sums = self._state, self._sums
    step, seconds = state.step, time.monotonic() - self._since
    steps = max(sums.steps, 1)
    means = {name: value / steps for name, value in sums.metrics.items()}
    means["drop_fraction"] = float(state.optimizer.drop_fraction_at(step))
    if sums.mask_changed is not None:
      means["mask_changed"] = sums.mask_changed
    means.update(self._executor.state_metrics())
    timing = {}
    if sums.metrics:
      timing["steps_per_second"] = sums.steps / max(seconds, 1e-9)
    test: Metrics = {}
    if self._evaluation.is_due(position, self._total):
      test = self._executor.evaluate()
      # Before it is reported and saved: the weights are one step further than
      # the metrics of the training.
      self._check_finite(test, state.iteration - 1, state.iteration)
    report = Report(state.iteration, step, means, test, timing)
    self._sums = _Sums()
    if test:
      self.last = report
    self._on_report(report)
    self._since = time.monotonic()
