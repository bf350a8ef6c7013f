"""The runner `tpu_estimator`: trains and evaluates through a TPUEstimator.

What is trained is a run of the loop, which makes the first checkpoint and
reads those that come, so that both runners train the same.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from rigl.runners.tpu_estimator.graph import TrainingGraph
from rigl.runners.tpu_estimator.hooks import EndAtIteration, Reporter
from rigl.runners.tpu_estimator.saver import EstimatorSaver
from rigl.runners.tpu_estimator.specs import (
  EstimatorEvaluation,
  EstimatorSettings,
  Evaluated,
  Trained,
  for_shards,
)
from rigl.training import checkpoints
from rigl.training.loop import ITERATION, TrainingDivergedError
from rigl.training.trainer import Run
from rigl.types import Tensor

# Below the directory of a run: what training starts from where the checkpoint
# is not one of ours.
_START = "start"


class EstimatorRun:
  """Trains a run to its end; it is what `script.train` wants.

  Training ends at exactly `run.total`: steps where the run counts these, and
  else iterations. Before each of its loops a TPU is told to make no more
  iterations than steps are left, of which mask updates may take some, and it
  gets another loop until none are left; elsewhere each iteration is looked at.

  Attributes:
    run: the run.
    directory: where everything is written.
    replicas: of the run.
    notice: None; a killed run goes on from its last checkpoint.
    trained: what is trained.

  Args:
    run: the run, not prepared; its own programs only say what its state is.
    trained: what is trained.
    evaluated: what is evaluated.
    settings: where it computes.
    by_steps: whether positions of the run are steps, or else iterations, which
      a TPU cannot end at.
    evaluate_every: how far evaluations are apart, in positions; 0: none.
    report_every: how far summaries are apart, in positions.
    keep: how many checkpoints to keep; 0 keeps all.
    at_end: what happens with the trained run.

  Raises:
    ValueError: if a TPU is to count iterations.
  """

  def __init__(
    self,
    run: Run,
    trained: Trained,
    evaluated: Evaluated,
    settings: EstimatorSettings,
    by_steps: bool,
    evaluate_every: int,
    report_every: int,
    keep: int,
    at_end: Callable[[], None] = lambda: None,
  ) -> None:
    if settings.use_tpu and not by_steps:
      raise ValueError("`use_tpu`: TPUs cannot end at an iteration.")
    self.run, self.directory = run, run.directory
    self.replicas, self.notice = run.replicas, None
    self.trained, self._settings = trained, settings
    self._by_steps, self._evaluate_every = by_steps, evaluate_every
    self._report_every, self._keep = report_every, keep
    self._at_end = at_end
    evaluate_by_estimator(run, evaluated, settings)

  def prepare(self) -> None:
    """Prepares the run and the checkpoint that training starts from.

    Raises:
      ValueError: if a file of the run is damaged.
      OSError: if a file cannot be read or written.
    """
    self.run.prepare()
    path, position = self.directory.path, self.run.loop.position
    for left in path.glob("model.ckpt*.tempstate*"):  # By a killed process.
      left.unlink()
    numbers = checkpoints.list_numbers(path)
    if not numbers:
      self.run.loop.save(path, keep=0)
      return
    # An Estimator takes the newest one by name, but that may be damaged; and a
    # published one lacks variables.
    names = {n: checkpoints.name_of(n) for n in numbers if n < position}
    names[position] = checkpoints.name_of(position)
    if position not in numbers or not checkpoints.has(
      str(path / names[position]), ITERATION
    ):
      (path / _START).mkdir(exist_ok=True)
      self.run.loop.save(path / _START, keep=0)
      names[position] = f"{_START}/{names[position]}"
    checkpoints.write_state(path, list(names.values()))

  def train_to_end(self) -> dict[str, Any]:
    """Trains to the end; `prepare` it first.

    Returns:
      The result, which `result.json` then holds.

    Raises:
      TrainingDivergedError: if a metric is not finite any more.
    """
    run, path = self.run, self.directory.path
    while run.loop.position < run.total:
      end = run.total
      if every := self._evaluate_every:
        end = min(end, (run.loop.position // every + 1) * every)
      self._train(end)
      run.loop.load(str(path / checkpoints.name_of(end)))
      if self._evaluate_every:
        self._report()
    shutil.rmtree(path / _START, ignore_errors=True)
    self._at_end()
    run.metrics.close()
    result = run.result()
    self.directory.finish(result)
    return result

  def _train(self, end: int) -> None:
    """Trains up to a position, where it writes a checkpoint."""
    start = self.trained.start()

    def batches(params: Mapping[str, Any]) -> tf.data.Dataset:
      return for_shards(self.trained.batches(start), params)

    max_steps = end if self._by_steps else None
    with _diverging():
      self.training_estimator(end).train(batches, max_steps=max_steps)

  def training_estimator(self, end: int) -> Any:
    """Makes the TPUEstimator that trains up to a position."""
    path = str(self.directory.path)

    def hooks(found: dict[str, Tensor], saver: EstimatorSaver) -> list[Any]:
      reporter = Reporter(found)
      if self._by_steps:
        return [reporter]
      return [reporter, EndAtIteration(end, found[ITERATION], saver, path)]

    graph = TrainingGraph(
      self.trained.make_learner,
      f"{path}/train",
      self._by_steps,
      self._report_every,
      self._keep,
      self._settings.use_tpu,
      hooks,
    )
    save_every = self.run.save_every if self._by_steps else None
    return self._settings.estimator(graph, path, save_every)

  def _report(self) -> None:
    """Evaluates, writes and prints it."""
    run, iteration = self.run, self.run.loop.iteration
    step = int(run.global_step.numpy())
    test = run.test_metrics()
    for name, value in test.items():
      if not math.isfinite(value):
        raise TrainingDivergedError(
          f"`{name}` is {value} at step {step}; lower the learning rate."
        )
    state = {
      **run.programs.inspect(),
      "learning_rate": float(run.learning_rate.at(step)),
      "drop_fraction": float(run.optimizer.drop_fraction_at(step)),
    }
    run.metrics.write(
      iteration, {"iteration": iteration, "step": step}, state, test
    )
    print(
      f"step {step}: test loss {test['loss']:.4f}, test accuracy "
      f"{test['accuracy']:.4f}",
      flush=True,
    )


def evaluate_by_estimator(
  run: Run, evaluated: Evaluated, settings: EstimatorSettings
) -> None:
  """Makes a run evaluate through a TPUEstimator; call it before preparing it.

  Args:
    run: the run.
    evaluated: what is evaluated.
    settings: where it computes.
  """
  evaluation = EstimatorEvaluation(evaluated, run.variables, settings)
  run.use(_Programs(run, evaluation))


class _Programs:
  """Stands in for the programs of a run."""

  def __init__(self, run: Run, evaluation: EstimatorEvaluation) -> None:
    self._run, self.evaluation = run, evaluation
    self._found: dict[int, dict[str, float]] = {}
    self.inspect = run.programs.inspect

  def evaluate(self) -> dict[str, float]:
    """The means of the metrics over all test examples."""
    iteration = self._run.loop.iteration
    if iteration not in self._found:
      self._found = {iteration: self.evaluation()}
    return dict(self._found[iteration])


@contextlib.contextmanager
def _diverging() -> Iterator[None]:
  """Says of a loss that is no number what the loop says."""
  try:
    yield
  except tf.compat.v1.train.NanLossDuringTrainingError as error:
    raise TrainingDivergedError(
      "`loss` became nan; lower the learning rate."
    ) from error
