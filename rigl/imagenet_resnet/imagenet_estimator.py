# SPDX-License-Identifier: Apache-2.0
"""TPUEstimator executor of the ImageNet script, `--runner=tpu_estimator`."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from rigl import files
from rigl.data.stream_source import Cursor, InputShard, StreamSource
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_state import make_state, make_task
from rigl.imagenet_resnet.imagenet_task import ImagenetTask
from rigl.imagenet_resnet.input.imagenet_data import ImagenetData
from rigl.imagenet_resnet.make_model import make_model
from rigl.runners.tpu_estimator.executor import EstimatorExecutor
from rigl.runners.tpu_estimator.graph import CURSOR
from rigl.runners.tpu_estimator.specs import (
  EstimatorEvaluation,
  EstimatorSettings,
  EvalSpec,
  TrainSpec,
)
from rigl.training.loop import Intervals
from rigl.training.train_state import OptimizerWrapper, TrainState
from rigl.types import Batch, Variable


def make_executor(
  flags: ImagenetSettings,
  state: TrainState,
  source: StreamSource,
  data: ImagenetData,
  directory: files.AnyPath,
  intervals: Intervals,
) -> EstimatorExecutor:
  """Makes the executor.

  Args:
    flags: the settings.
    state: the train state.
    source: the training batches.
    data: the images.
    directory: the run directory.
    intervals: distances between the events of the run.
  """

  def graph_state(step: Variable, wrap: OptimizerWrapper) -> TrainState:
    model = make_model(flags, evaluates=True)
    return make_state(
      flags, model, step, init_masks=False, optimizer_wrapper=wrap
    )

  def batches(cursor: Cursor) -> tf.data.Dataset:
    def with_cursor(batch: Batch) -> Batch:
      # Behind the whole batch, for every shard; int32, because TPUs are not
      # fed with int64.
      behind = tf.cast(source.after(batch), tf.int32)
      return {
        "images": batch["images"],
        "labels": batch["labels"],
        CURSOR: tf.tile(behind[None], [flags.train_batch_size, 1]),
      }

    return source.make(cursor, InputShard()).map(with_cursor)

  return EstimatorExecutor(
    state,
    TrainSpec(graph_state, source.host_cursor, batches),
    make_evaluation(flags, data, state.variables),
    make_settings(flags),
    directory,
    intervals,
    flags.keep_checkpoint_max,
    norms=True,
  )


def make_evaluation(
  flags: ImagenetSettings,
  data: ImagenetData,
  variables: Mapping[str, Variable],
) -> EstimatorEvaluation:
  """Makes the evaluation of the current weights of a network.

  Args:
    flags: the settings.
    data: the images.
    variables: the variables of the network by name.
  """

  def task() -> tuple[ImagenetTask, Mapping[str, Variable]]:
    model = make_model(flags, evaluates=True)
    return make_task(flags, model), model.named_variables

  spec = EvalSpec(task, data.evaluation_batches, flags.num_eval_images)
  return EstimatorEvaluation(spec, variables, make_settings(flags))


def make_settings(flags: ImagenetSettings) -> EstimatorSettings:
  """Makes the settings of TPUEstimators.

  Raises:
    ValueError: if batches cannot be divided among the cores.
  """
  return EstimatorSettings(
    flags.train_batch_size,
    min(flags.eval_batch_size, flags.num_eval_images),
    flags.iterations_per_loop,
    flags.use_tpu,
    flags.num_cores,
    flags.master,
    flags.tpu_job_name,
  )
