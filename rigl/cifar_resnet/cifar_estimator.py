# SPDX-License-Identifier: Apache-2.0
"""TPUEstimator executor of the CIFAR-10 script, `--runner=tpu_estimator`."""

from __future__ import annotations

from collections.abc import Mapping

from rigl import files
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_state import make_state, make_task
from rigl.cifar_resnet.cifar_task import CifarTask
from rigl.data.array_source import ArraySource
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


def make_executor(
  flags: CifarSettings,
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

  def graph_state(step: Variable, wrap: OptimizerWrapper) -> TrainState:
    model = flags.create_model()
    return make_state(
      flags, model, step, init_masks=False, optimizer_wrapper=wrap
    )

  def task() -> tuple[CifarTask, Mapping[str, Variable]]:
    model = flags.create_model()
    return make_task(flags, model), model.named_variables

  settings = EstimatorSettings(flags.batch_size, size)
  spec = EvalSpec(task, lambda: test.whole_dataset(size), test.num_examples)
  return EstimatorExecutor(
    state,
    TrainSpec(graph_state, lambda: state.iteration, source.dataset),
    EstimatorEvaluation(spec, state.variables, settings),
    settings,
    directory,
    intervals,
    flags.keep_checkpoint_max,
  )
