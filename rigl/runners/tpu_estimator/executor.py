# SPDX-License-Identifier: Apache-2.0
"""TPUEstimator executor: trains up to the next event by `TPUEstimator.train`.

Each call builds a graph and a session, so it is only called for evaluations
and for the end. Between them the graph itself writes summaries, and hooks print
lines and save; each of these events would otherwise cost half a minute.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from rigl import files
from rigl.runners.tpu_estimator.graph import TrainingGraph
from rigl.runners.tpu_estimator.hooks import (
  EndAtIteration,
  ReportHook,
  StopHook,
)
from rigl.runners.tpu_estimator.saver import EstimatorSaver
from rigl.runners.tpu_estimator.specs import (
  EstimatorEvaluation,
  EstimatorSettings,
  TrainSpec,
  for_shards,
)
from rigl.runners.train_step import measure_state, state_metrics
from rigl.training import checkpoints
from rigl.training.executor import Progress, StateInVariables, never
from rigl.training.loop import STEPS, Intervals, TrainingDivergedError
from rigl.training.train_state import ITERATION, TrainState
from rigl.types import Metrics, Tensor

# Subdirectory of a run directory: the checkpoint that training starts from if
# another program wrote the newest one.
_START = "start"


class EstimatorExecutor(StateInVariables):
  """Trains and evaluates through a TPUEstimator.

  Training ends at exactly the limit: gradient steps in a run that counts
  these, else iterations. On a TPU, each inner loop runs at most as many
  iterations as there are steps left. Mask updates may use up some of them, so
  loops repeat until the number of steps is reached. Elsewhere a hook checks
  every iteration. If the run shall stop, training ends after an iteration, or
  after an inner loop on a TPU, and an evaluation after a batch.

  Attributes:
    train_spec: the argument.
    evaluation: the argument.

  Args:
    state: the train state. Checkpoints carry it to the graphs and back.
    train_spec: how the graph makes its train state and its batches.
    evaluation: evaluates the state.
    settings: devices and batch sizes.
    directory: the run directory, which holds the checkpoints.
    intervals: distances between the events of the run. `report` is the distance
      of summaries, `save` that of checkpoints in a run that counts steps. One
      more checkpoint is written at the end of every call.
    keep: how many checkpoints to keep; 0 keeps all.
    norms: whether the norms of gradient and weights are measured.

  Raises:
    ValueError: if a TPU is to count iterations, or Estimators cannot find
      checkpoints in the directory.
  """

  def __init__(
    self,
    state: TrainState,
    train_spec: TrainSpec,
    evaluation: EstimatorEvaluation,
    settings: EstimatorSettings,
    directory: files.AnyPath,
    intervals: Intervals,
    keep: int = 2,
    norms: bool = False,
  ) -> None:
    self._by_steps = intervals.unit == STEPS
    if settings.use_tpu and not self._by_steps:
      raise ValueError("`use_tpu`: TPUs cannot end at an iteration.")
    if set(str(directory)) & checkpoints.WILDCARDS:
      found = " ".join(sorted(checkpoints.WILDCARDS))
      raise ValueError(
        f"The directory of a run must have none of the characters {found} with "
        f"`runner`=tpu_estimator, got {str(directory)!r}."
      )
    self.state, self._settings = state, settings
    self.is_stopped: Callable[[], bool] = never
    self.train_spec, self.evaluation = train_spec, evaluation
    self._stop: StopHook | None = None  # That of the training at work.
    self._directory, self._intervals = directory, intervals
    self._keep, self._norms = keep, norms
    self._has_start = False
    state.optimizer.create_slots(state.task.trainable_variables)

  def loop_intervals(self, evaluate_every: int) -> Intervals:
    """Intervals for the loop: it only stops to evaluate, and at the end.

    Args:
      evaluate_every: distance of evaluations; 0 for none.
    """
    return dataclasses.replace(
      self._intervals, report=evaluate_every, evaluate=None, save=0
    )

  @property
  def is_ahead(self) -> bool:
    """Whether a training is at work that the train state does not show."""
    stop = self._stop  # Another thread may be here.
    return stop is not None and stop.has_run

  def advance(self, iteration: int, limit: int) -> Progress:
    """Trains to a checkpoint, and loads it.

    Args:
      iteration: number of iterations before.
      limit: the most positions to advance.

    Returns:
      The progress, without metrics.

    Raises:
      TrainingDivergedError: if the loss is not a number any more.
    """
    state, step = self.state, self.state.step
    if not self._has_start:
      self._write_start()
    self._stop = StopHook(self.is_stopped)
    try:
      self._train(self._position + limit, self._stop)
      state.load(self._newest())
    finally:
      self._stop = None
    files.remove_tree(self._directory / _START)
    return Progress(state.iteration - iteration, state.step - step, {})

  def evaluate(self) -> Metrics:
    """Returns the means of the metrics over all test examples.

    Raises:
      StoppedError: if the run shall stop.
    """
    return self.evaluation(self.is_stopped)

  def state_metrics(self) -> Metrics:
    """Returns the metrics that need no data."""
    measured = measure_state(self.state, self._norms)
    return state_metrics(
      {name: float(value) for name, value in measured.items()},
      self.state.optimizer,
    )

  @property
  def _position(self) -> int:
    return self.state.step if self._by_steps else self.state.iteration

  def _write_start(self) -> None:
    """Writes the state to the checkpoint that an Estimator will start from.

    An Estimator takes the newest one by name. That may be damaged, a published
    one lacks variables, and weights off the masks are zero in the state alone.
    """
    state, path, position = self.state, self._directory, self._position
    for left in path.glob("model.ckpt*.tempstate*"):  # Of a killed process.
      left.unlink()
    self._has_start = True
    numbers = checkpoints.list_numbers(path)
    if not numbers:
      state.save(path, position, keep=0)
      return
    names = {n: checkpoints.name_of(n) for n in numbers if n < position}
    names[position] = checkpoints.name_of(position)
    is_same = position in numbers and not state.is_repaired
    if not is_same or not checkpoints.has(
      str(path / names[position]), ITERATION
    ):
      (path / _START).mkdir(exist_ok=True)
      state.save(path / _START, position, keep=0)
      names[position] = f"{_START}/{names[position]}"
    checkpoints.write_state(path, list(names.values()))

  def _train(self, end: int, stop: StopHook) -> None:
    """Trains up to a position or a stop, where it writes a checkpoint."""
    start = self.train_spec.start()

    def batches(params: Mapping[str, Any]) -> tf.data.Dataset:
      return for_shards(self.train_spec.batches(start), params)

    max_steps = end if self._by_steps else None
    with _named_divergence():
      estimator = self.training_estimator(end)
      estimator.train(batches, hooks=[stop], max_steps=max_steps)

  def _newest(self) -> str:
    """The prefix of the checkpoint that the training wrote."""
    found = tf.train.get_checkpoint_state(str(self._directory))
    return str(found.model_checkpoint_path)

  def training_estimator(self, end: int) -> Any:
    """Makes the TPUEstimator that trains up to a position.

    Args:
      end: the position.
    """
    path = str(self._directory)

    def hooks(found: dict[str, Tensor], saver: EstimatorSaver) -> list[Any]:
      shown = self.state.task.headline_metrics[:1]
      report = ReportHook(found, shown)
      if self._by_steps:
        return [report]
      return [report, EndAtIteration(end, found[ITERATION], saver, path)]

    graph = TrainingGraph(
      self.train_spec.make_state,
      f"{path}/train",
      self._by_steps,
      self._intervals.report,
      self._keep,
      self._norms,
      self._settings.use_tpu,
      hooks,
    )
    save_every = self._intervals.save if self._by_steps else None
    return self._settings.estimator(graph, path, save_every)


@contextlib.contextmanager
def _named_divergence() -> Iterator[None]:
  """Raises the error of the loop where the loss is not a number."""
  try:
    yield
  except tf.compat.v1.train.NanLossDuringTrainingError as error:
    raise TrainingDivergedError(
      "`loss` became nan; lower the learning rate."
    ) from error
