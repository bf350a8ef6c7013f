# SPDX-License-Identifier: Apache-2.0
"""Loop: advances an executor from event to event.

It knows every coming event (report, evaluation, checkpoint, end) and asks the
executor for all iterations up to the next one. It knows neither the devices
nor the schedule of mask updates.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rigl.training.executor import SKIPPED, Executor, Progress, StoppedError
from rigl.training.train_state import TrainState
from rigl.training.unreported import Unreported
from rigl.types import Metrics

# How many iterations in a row may be without a step that changes anything.
_MAX_USELESS = 100

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
    may_break_off: whether a signal may end the action with `StoppedError` at
      any instruction. It is then repeated by the resumed run.
  """

  every: int
  action: Callable[[int], None]
  at_start: bool = False
  at_end: bool = False
  name: str = ""
  may_break_off: bool = False

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
    is_stopped: whether `run` shall return before its end. It is asked before
      every call of the executor and before every event, on all hosts alike.

  Attributes:
    last: the last report with an evaluation.
    is_stopped: whether the last call of `run` returned before its end.
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
    self._asks_to_stop = is_stopped
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
    self._save_event: Event | None = None
    if on_save is not None:
      save = on_save
      self._save_event = Event(intervals.save, lambda _: save(), at_end=True)
      self._events.append(self._save_event)
    self._reported_at, self._total = -1, intervals.total
    self._useless = 0  # Iterations since the last good step.
    self._unreported, self._since = Unreported(), time.monotonic()
    self.last: Report | None = None
    self.is_stopped = False

  @property
  def position(self) -> int:
    """How far the run is, in iterations or steps."""
    by_steps = self._intervals.unit == STEPS
    return self._state.step if by_steps else self._state.iteration

  @property
  def unreported(self) -> Unreported:
    """What was not reported so far, and the events that are left."""
    seconds = time.monotonic() - self._since
    is_reported = self._reported_at == self.position
    return dataclasses.replace(
      self._unreported, seconds=seconds, is_reported=is_reported
    )

  def resume(self, unreported: Unreported) -> None:
    """Continues what a stopped run did not report; call it before `run`."""
    self._unreported = unreported
    if unreported.is_reported:
      self._reported_at = self.position

  def run(
    self, total: int, on_advance: Callable[[int], None] = lambda _: None
  ) -> None:
    """Trains up to a position, or until it is stopped.

    Args:
      total: the position.
      on_advance: gets the number of positions after each call of the executor.
    """
    self._since = time.monotonic() - self._unreported.seconds
    self._total, self.is_stopped = total, False
    position = self.position
    for event in self._events:
      if position == 0 and event.at_start and event.is_due(0, total):
        event.action(0)
    while self._run_events(position) and position < total:
      if self._asks_to_stop():
        self.is_stopped = True
        return
      limit = min(event.left(position) for event in self._events)
      limit = int(min(limit, total - position))
      first = self._state.iteration
      progress = self._executor.advance(first, limit)
      self._state.iteration = last = first + progress.iterations
      self._check_finite(progress.sums, first, last)
      self._check_progress(progress, last)
      self._unreported.add(progress.steps, progress.sums, progress.mask_changed)
      before, position = position, self.position
      on_advance(position - before)
      if position > before:
        self._unreported.next_event = 0

  def _run_events(self, position: int) -> bool:
    """Runs the events that are left; returns False if the run shall stop."""
    left = self._unreported.next_event
    for number, event in enumerate(self._events):
      if (
        left is None or number < left or not event.is_due(position, self._total)
      ):
        continue
      self._unreported.next_event = number
      try:
        # What is left of a position alone is its checkpoint.
        if event is not self._save_event and self._asks_to_stop():
          raise StoppedError
        event.action(position)
      except StoppedError:
        self.is_stopped = True
        return False
    self._unreported.next_event = None
    return True

  def _check_progress(self, progress: Progress, iteration: int) -> None:
    """Raises an error if no step is good any more."""
    skipped = progress.sums.get(SKIPPED, 0)
    if progress.steps > skipped:
      self._useless = 0
      return
    self._useless += progress.iterations
    if self._useless > _MAX_USELESS:
      raise TrainingDivergedError(
        f"No step of the {self._useless} iterations before {iteration} had "
        "finite numbers; lower the learning rate."
      )

  def check_state(self) -> None:
    """Checks that weights, slots and masks are finite.

    Raises:
      TrainingDivergedError: naming the first variable that is not.
    """
    name = self._executor.non_finite()
    if name:
      raise TrainingDivergedError(
        f"`{name}` is not finite after iteration {self._state.iteration}, "
        "which is not saved; lower the learning rate or the weight decay."
      )

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
    self.check_state()
    state, sums = self._state, self._unreported
    step, seconds = state.step, time.monotonic() - self._since
    metrics = dict(sums.metrics)
    skipped = metrics.pop(SKIPPED, None)
    steps = max(sums.steps - (skipped or 0), 1)
    means = {name: value / steps for name, value in metrics.items()}
    if skipped is not None:
      means[SKIPPED] = skipped
    if skipped:
      logging.warning(
        "%d of %d steps before iteration %d were skipped, because their "
        "numbers were not finite.",
        skipped,
        sums.steps,
        state.iteration,
      )
    means["drop_fraction"] = float(state.optimizer.drop_fraction_at(step))
    if sums.mask_changed is not None:
      means["mask_changed"] = sums.mask_changed
    means.update(self._executor.state_metrics())
    timing = {}
    if metrics:
      timing["steps_per_second"] = sums.steps / max(seconds, 1e-9)
    test: Metrics = {}
    if self._evaluation.is_due(position, self._total):
      test = self._executor.evaluate()
      # Before it is reported and saved: the weights are one step further than
      # the metrics of the training.
      self._check_finite(test, state.iteration - 1, state.iteration)
    report = Report(state.iteration, step, means, test, timing)
    if test:
      self.last = report
    self._on_report(report)
    self._reported_at = position
    if self._is_regular(position):
      self._unreported = Unreported(next_event=sums.next_event)
      self._since = time.monotonic()

  def _is_regular(self, position: int) -> bool:
    """Whether a longer run would report here as well."""
    intervals = [self._intervals.save, self._intervals.report]
    intervals.append(self._evaluation.every)
    return any(every and position % every == 0 for every in intervals)
