"""The plan of a run: every call of its programs, known before the first one.

Which program runs when depends on the schedules alone, not on what is
learned. So a machine that has only the compiled programs can run the plan,
and the loop can afterwards go through the results as if it had made them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rigl.training import checkpoints
from rigl.training.base_programs import state_metrics
from rigl.training.progress import Progress
from rigl.training.trainer import Run

# What a call is: its kind and its numbers.
Call = list[Any]
TRAIN, UPDATE, EVALUATE, INSPECT, SAVE = (
  "train",
  "update",
  "evaluate",
  "inspect",
  "save",
)


def make_plan(run: Run) -> list[Call]:
  """Returns the calls of a run from where it is to its end.

  Args:
    run: the run; it is as before afterwards.

  Returns:
    Calls: [train, iteration, count], [update, iteration], [evaluate],
    [inspect] and [save, position].
  """
  calls: list[Call] = []
  recorder = _Recorder(run, calls)
  loop = run.make_loop(recorder, on_report=lambda _: None)
  loop.iteration = run.loop.iteration
  loop.add_event(
    run.save_every, lambda at: calls.append([SAVE, at]), at_end=True
  )
  with _kept(run):
    loop.run(run.total, _NoProgress())
  return calls


class _Programs:
  """Stands in for `Programs`; only the steps are counted."""

  def __init__(self, run: Run) -> None:
    self._run, self._source = run, run.train_source

  def steps_left(self, iteration: int) -> int:
    return self._source.steps_left(iteration)

  def _stepped(self, count: int) -> None:
    self._run.global_step.assign_add(count)

  def _updated(self) -> None:
    self._run.optimizer.mark_updated(self._run.global_step.read_value())


class _Recorder(_Programs):
  """Notes the calls."""

  def __init__(self, run: Run, calls: list[Call]) -> None:
    super().__init__(run)
    self._calls = calls

  def train_steps(self, iteration: int, count: int) -> dict[str, float]:
    self._calls.append([TRAIN, iteration, count])
    self._stepped(count)
    return {}

  def update_masks(self, iteration: int) -> float:
    self._calls.append([UPDATE, iteration])
    self._updated()
    return 0.0

  def evaluate(self) -> dict[str, float]:
    self._calls.append([EVALUATE])
    return {}

  def inspect(self) -> dict[str, float]:
    self._calls.append([INSPECT])
    return {}


class Replay(_Programs):
  """Returns what the calls of a plan returned elsewhere.

  Args:
    run: the run that was planned.
    results: [call, {name: number}] in the order of the plan, without saves.
  """

  def __init__(self, run: Run, results: Sequence[tuple[Call, Any]]) -> None:
    super().__init__(run)
    self._results = iter(results)

  def train_steps(self, iteration: int, count: int) -> dict[str, float]:
    """See `Programs`."""
    self._stepped(count)
    found = self._next([TRAIN, iteration, count])
    return {name: found[name] for name in self._run.task.metric_names}

  def update_masks(self, iteration: int) -> float:
    """See `Programs`."""
    self._updated()
    return next(iter(self._next([UPDATE, iteration]).values()))

  def evaluate(self) -> dict[str, float]:
    """See `Programs`."""
    found = self._next([EVALUATE])
    return {name: found[name] for name in self._run.task.eval_metric_names}

  def inspect(self) -> dict[str, float]:
    """See `Programs`."""
    return state_metrics(self._next([INSPECT]), self._run.optimizer)

  def _next(self, expected: Call) -> dict[str, float]:
    call, found = next(self._results, (None, {}))
    if call != expected:
      raise ValueError(
        f"The results are not those of this run: expected {expected}, got "
        f"{call}."
      )
    return dict(found)


def finish(
  run: Run,
  results: Sequence[tuple[Call, Any]],
  state: Mapping[str, np.ndarray],
) -> dict[str, Any]:
  """Makes of a run what it would be if it had made the calls of its plan.

  Args:
    run: the run that was planned, not prepared.
    results: see `Replay`.
    state: the values of all variables at the end, by name.

  Returns:
    The result, as of `Run.train_to_end`.

  Raises:
    ValueError: if the results or the state are not those of this run.
  """
  run.use(Replay(run, results))
  run.loop.is_timed = False
  run.save_every = 0  # There is no state but that of the end.
  run.prepare()
  run.train(run.total)
  run.metrics.close()
  checkpoints.restore(state, run.all_variables)
  run.save()
  result = run.result()
  run.directory.finish(result)
  return result


class _NoProgress(Progress):
  """Shows nothing."""

  def __init__(self) -> None:
    super().__init__(0)

  def advance(self, count: int) -> None:
    """Nothing."""


@contextlib.contextmanager
def _kept(run: Run) -> Iterator[None]:
  """Gives the variables that plan a run their values back."""
  variables = [run.global_step, *run.optimizer.state().values()]
  before = [variable.read_value() for variable in variables]
  try:
    yield
  finally:
    for variable, value in zip(variables, before, strict=True):
      variable.assign(value)
