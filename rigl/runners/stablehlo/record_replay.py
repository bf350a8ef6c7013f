# SPDX-License-Identifier: Apache-2.0
"""Recorder and Replay: executors that plan a run and replay its results.

The order of the calls of a run depends on the schedules alone, not on weights
or data, so the calls are known in advance. A machine that has only the compiled
programs can make them. The loop then replays their results as if it had made
the calls itself.

A plan has the longest calls that the schedules allow. A loop that trains cuts
those that take long, so that it can stop soon; see `rigl.runners.pace`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rigl.data.source import Source
from rigl.runners.train_step import note_update, state_metrics
from rigl.training import checkpoints, unreported
from rigl.training.executor import (
  Progress,
  StateInVariables,
  Stretch,
  never,
  next_stretch,
)
from rigl.training.loop import Loop, Report
from rigl.training.train_state import TrainState
from rigl.training.trainer import Trainer
from rigl.types import Metrics

# A call: its kind and its numbers.
Call = list[Any]
# A call and the numbers that it returned, by name.
Result = tuple[Call, Mapping[str, float]]
TRAIN, UPDATE, EVALUATE, INSPECT, SAVE = (
  "train",
  "update",
  "evaluate",
  "inspect",
  "save",
)


class _Planner(StateInVariables):
  """Follows the schedules without computing anything.

  Args:
    state: the train state; only steps and mask updates are counted.
    source: the training batches.
  """

  def __init__(self, state: TrainState, source: Source) -> None:
    self.state, self._source = state, source
    self.is_stopped: Callable[[], bool] = never
    self.is_ahead = False  # Its steps take no time.

  def _plan(self, iteration: int, limit: int) -> tuple[Stretch, list[Call]]:
    """Plans the next stretch and its calls, as the TensorFlow executor does.

    That executor may cut a call into several; see `rigl.runners.pace`.
    """
    state, calls = self.state, []
    limit = min(limit, self._source.steps_left(iteration) or limit)
    stretch = next_stretch(state.optimizer, state.step, limit)
    if stretch.steps:
      calls.append([TRAIN, iteration, stretch.steps])
      state.global_step.assign_add(stretch.steps)
    if stretch.updates_masks:
      calls.append([UPDATE, stretch.update_iteration(iteration)])
      state.optimizer.mark_updated(state.global_step.read_value())
    return stretch, calls


class Recorder(_Planner):
  """Executor that records the calls of a run.

  Attributes:
    calls: the calls so far.

  Args:
    state: the train state; only steps and mask updates are counted.
    source: the training batches.
  """

  def __init__(self, state: TrainState, source: Source) -> None:
    super().__init__(state, source)
    self.calls: list[Call] = []

  def advance(self, iteration: int, limit: int) -> Progress:
    """Records what the TensorFlow executor would do.

    Args:
      iteration: number of iterations before.
      limit: the most gradient steps.
    """
    stretch, calls = self._plan(iteration, limit)
    self.calls += calls
    return Progress(max(stretch.steps, 1), stretch.steps, {})

  def evaluate(self) -> Metrics:
    """Records an evaluation."""
    self.calls.append([EVALUATE])
    return {}

  def state_metrics(self) -> Metrics:
    """Records an inspection."""
    self.calls.append([INSPECT])
    return {}


class Replay(_Planner):
  """Executor that replays the results of a plan instead of computing.

  Args:
    state: the train state; only steps and mask updates are counted.
    source: the training batches.
    results: results of the planned calls in their order, without saves.
  """

  def __init__(
    self, state: TrainState, source: Source, results: Sequence[Result]
  ) -> None:
    super().__init__(state, source)
    self._results = iter(results)

  def advance(self, iteration: int, limit: int) -> Progress:
    """Returns the metrics of the next calls.

    Args:
      iteration: number of iterations before.
      limit: the most gradient steps.

    Raises:
      ValueError: if the results are not those of this run.
    """
    stretch, calls = self._plan(iteration, limit)
    sums, changed = {}, 0.0
    for call in calls:
      found = self._next(call)
      if call[0] == UPDATE:
        changed = note_update(found, self.state.optimizer)
      else:
        sums = {name: found[name] for name in self.state.task.metric_names}
    return Progress(max(stretch.steps, 1), stretch.steps, sums, changed)

  def evaluate(self) -> Metrics:
    """Returns the metrics of the next evaluation."""
    found = self._next([EVALUATE])
    return {name: found[name] for name in self.state.task.eval_metric_names}

  def state_metrics(self) -> Metrics:
    """Returns the metrics of the next inspection."""
    return state_metrics(self._next([INSPECT]), self.state.optimizer)

  def _next(self, expected: Call) -> dict[str, float]:
    call, found = next(self._results, (None, {}))
    if call != expected:
      raise ValueError(
        f"The results are not those of this run: expected {expected}, got "
        f"{call}."
      )
    return dict(found)


def make_plan(trainer: Trainer, source: Source) -> list[Call]:
  """Plans the calls of a run from its position to its end.

  Args:
    trainer: the run, which stays at its position.
    source: its training batches.

  Returns:
    Calls: [train, iteration, count], [update, iteration], [evaluate],
    [inspect] and [save, position].
  """
  state, intervals = trainer.state, trainer.intervals
  recorder = Recorder(state, source)
  loop = Loop(
    recorder,
    state,
    intervals,
    on_report=lambda _: None,
    on_save=lambda: recorder.calls.append([SAVE, loop.position]),
  )
  loop.resume(unreported.load(trainer.directory.path, state.iteration))
  with _preserved(state):
    loop.run(intervals.total)
  return recorder.calls


def finish(
  trainer: Trainer,
  source: Source,
  results: Sequence[Result],
  state: Mapping[str, np.ndarray],
) -> dict[str, Any]:
  """Brings a run to its end with the results of its planned calls.

  Args:
    trainer: the run that was planned, not prepared.
    source: its training batches.
    results: results of the planned calls in their order, without saves.
    state: the values of all variables at the end, by name.

  Returns:
    The result, which `result.json` then holds.

  Raises:
    ValueError: if the results or the state are not those of this run.
  """
  trainer.prepare()
  replay = Replay(trainer.state, source, results)

  def report(replayed: Report) -> None:
    # The speed of the recorded run is not known.
    trainer.reporter.report(dataclasses.replace(replayed, timing={}))

  # It saves nothing, because only the state at the end is known.
  loop = Loop(replay, trainer.state, trainer.intervals, report)
  loop.resume(trainer.loop.unreported)
  trainer.run(loop=loop)
  checkpoints.restore(state, trainer.state.all_variables)
  trainer.save()
  return trainer.finish(loop)


@contextlib.contextmanager
def _preserved(state: TrainState) -> Iterator[None]:
  """Restores steps, iterations and optimizer state after planning."""
  variables = [state.global_step, *state.optimizer.state().values()]
  before = [variable.read_value() for variable in variables]
  iteration = state.iteration
  try:
    yield
  finally:
    state.iteration = iteration
    for variable, value in zip(variables, before, strict=True):
      variable.assign(value)
