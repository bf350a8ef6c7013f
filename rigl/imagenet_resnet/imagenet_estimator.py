"""ImageNet through a TPUEstimator, `--runner=tpu_estimator`."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from rigl.data.stream_source import Place, Share
from rigl.imagenet_resnet.imagenet_learner import make_learner, make_task
from rigl.imagenet_resnet.imagenet_run import ImagenetRun
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_task import ImagenetTask
from rigl.imagenet_resnet.input.imagenet_data import ImagenetData
from rigl.imagenet_resnet.make_model import make_model
from rigl.runners.tpu_estimator.executor import EstimatorRun
from rigl.runners.tpu_estimator.graph import POSITION
from rigl.runners.tpu_estimator.specs import (
  EstimatorEvaluation,
  EstimatorSettings,
  Evaluated,
  Trained,
)
from rigl.training.train_state import Learner, Wrap
from rigl.types import Tensor, Variable


def make_estimator_run(flags: ImagenetSettings) -> EstimatorRun:
  """Makes what trains through a TPUEstimator.

  Args:
    flags: the settings.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read or the directory not be written.
  """
  settings = _settings(flags)
  run = ImagenetRun(flags)
  source = run.train_source

  def learner(global_step: Variable, wrap: Wrap) -> Learner:
    model = make_model(flags, evaluates=True)
    return make_learner(flags, model, global_step, restored=True, wrap=wrap)

  def batches(place: Place) -> tf.data.Dataset:
    def used(batch: dict[str, Tensor]) -> dict[str, Tensor]:
      # Of the whole batch, for every shard; int32, because TPUs are not fed
      # with int64.
      position = tf.cast(source.after(batch), tf.int32)
      return {
        "images": batch["images"],
        "labels": batch["labels"],
        POSITION: tf.tile(position[None], [flags.train_batch_size, 1]),
      }

    return source.make(place, Share()).map(used)

  def export() -> None:
    if flags.export_model_freq:
      run.export(run.loop.position)

  evaluates = flags.mode == "train_and_eval"
  return EstimatorRun(
    run,
    Trained(learner, source.place, batches),
    _evaluated(flags, run.data),
    settings,
    by_steps=True,
    evaluate_every=flags.steps_per_eval if evaluates else 0,
    report_every=flags.iterations_per_loop,
    keep=flags.keep_checkpoint_max,
    at_end=export,
  )


def make_evaluation(
  flags: ImagenetSettings,
  data: ImagenetData,
  variables: Mapping[str, Variable],
) -> EstimatorEvaluation:
  """Makes what evaluates the present weights of a network.

  Args:
    flags: the settings.
    data: the images.
    variables: the variables of the network by name.
  """
  evaluated = _evaluated(flags, data)
  return EstimatorEvaluation(evaluated, variables, _settings(flags))


def _evaluated(flags: ImagenetSettings, data: ImagenetData) -> Evaluated:
  def task() -> tuple[ImagenetTask, Mapping[str, Variable]]:
    model = make_model(flags, evaluates=True)
    return make_task(flags, model), model.named_variables

  return Evaluated(task, data.evaluation_batches, flags.num_eval_images)


def _settings(flags: ImagenetSettings) -> EstimatorSettings:
  return EstimatorSettings(
    flags.train_batch_size,
    min(flags.eval_batch_size, flags.num_eval_images),
    flags.iterations_per_loop,
    flags.use_tpu,
    flags.num_cores,
    flags.master,
    flags.tpu_job_name,
  )
