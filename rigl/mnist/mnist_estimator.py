# SPDX-License-Identifier: Apache-2.0
"""TPUEstimator executor of the MNIST script, `--runner=tpu_estimator`."""

from __future__ import annotations

from collections.abc import Mapping

from rigl import files
from rigl.data.array_source import ArraySource
from rigl.mnist.mnist_model import MnistTask
from rigl.mnist.mnist_settings import MnistSettings
from rigl.mnist.mnist_state import make_model, make_state
from rigl.runners.tpu_estimator.executor import EstimatorExecutor
from rigl.runners.tpu_estimator.specs import (
  EstimatorEvaluation,
  EstimatorSettings,
  EvalSpec,
  TrainSpec,
)
from rigl.training.loop import Intervals
from rigl.training.train_state import OptimizerWrapper, TrainState
from rigl.types import Variable

_EVAL_BATCH_SIZE = 1000


def check(flags: MnistSettings) -> None:
  """Rejects settings that a TPUEstimator does not support.

  Raises:
    ValueError: naming the setting.
  """
  if flags.mask_record_frequency:
    raise ValueError(
      "`mask_record_frequency` must be 0 with `runner`=tpu_estimator, which "
      f"records no masks, got {flags.mask_record_frequency}."
    )
  if not flags.save_model:
    raise ValueError(
      "`save_model` must be true with `runner`=tpu_estimator, whose "
      "evaluations read checkpoints, got false."
    )


def make_executor(
  flags: MnistSettings,
  state: TrainState,
  source: ArraySource,
  test: ArraySource,
  directory: files.AnyPath,
  intervals: Intervals,
) -> EstimatorExecutor:
  """Makes the executor.

  Args:
    flags: the settings.
    state: the train state.
    source: the training examples.
    test: the test examples.
    directory: the run directory.
    intervals: distances between the events of the run.
  """
  size = min(_EVAL_BATCH_SIZE, test.num_examples)
  num_inputs = source.zeros()["images"].shape[1]

  def graph_state(step: Variable, wrap: OptimizerWrapper) -> TrainState:
    return make_state(
      flags,
      make_model(flags, num_inputs),
      source.batches_per_epoch,
      step,
      init_masks=False,
      optimizer_wrapper=wrap,
    )

  def make_task() -> tuple[MnistTask, Mapping[str, Variable]]:
    model = make_model(flags, num_inputs)
    return MnistTask(model), model.named_variables

  settings = EstimatorSettings(flags.batch_size, size)
  spec = EvalSpec(
    make_task, lambda: test.whole_dataset(size), test.num_examples
  )
  return EstimatorExecutor(
    state,
    TrainSpec(graph_state, lambda: state.iteration, source.dataset),
    EstimatorEvaluation(spec, state.variables, settings),
    settings,
    directory,
    intervals,
  )
