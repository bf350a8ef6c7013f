# SPDX-License-Identifier: Apache-2.0
"""Task, learning rate and train state of the ImageNet script."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_task import ImagenetTask
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.schedules import (
  MOBILENET_DROPS,
  RESNET_DROPS,
  ConstantRate,
  CosineRestarts,
  DropsByEpoch,
  LearningRate,
)
from rigl.training.build_state import make_train_state
from rigl.training.train_state import OptimizerWrapper, TrainState, identity
from rigl.types import Variable

_REFERENCE_BATCH_SIZE = 256
# Flags of arguments that have other names.
_FLAG_NAMES = {
  "rate": "base_learning_rate",
  "stretch": "training_steps_multiplier",
  "first_epochs": "sgdr_decay_step",
  "t_mul": "sgdr_t_mul",
  "m_mul": "sgdr_m_mul",
}


def make_task(flags: ImagenetSettings, model: ImageModel) -> ImagenetTask:
  """Makes the task of a network."""
  return ImagenetTask(model, flags.label_smoothing, flags.use_batch_statistics)


def make_state(
  flags: ImagenetSettings,
  model: ImageModel,
  global_step: Variable,
  masks: Mapping[str, np.ndarray] | None = None,
  init_masks: bool = True,
  optimizer_wrapper: OptimizerWrapper = identity,
) -> TrainState:
  """Makes the train state of a network.

  Args:
    flags: the settings.
    model: the network.
    global_step: int64 variable that gradient steps advance.
    masks: initial masks by layer name. None: random ones.
    init_masks: whether to make initial masks. False where they will come from
      a checkpoint.
    optimizer_wrapper: wraps the optimizer that makes the steps.

  Raises:
    ValueError: if a setting is outside its range.
  """
  return make_train_state(
    flags,
    make_task(flags, model),
    model.kernels,
    model.named_variables,
    make_learning_rate(flags),
    global_step,
    inner="adam" if flags.use_adam else "momentum",
    momentum=flags.momentum,
    masks=masks,
    weight_decay_filter=model.decays,
    init_masks=init_masks,
    optimizer_wrapper=optimizer_wrapper,
  )


def make_learning_rate(flags: ImagenetSettings) -> LearningRate:
  """Makes the learning rate of the flags.

  Args:
    flags: the settings.
  """
  scale = flags.train_batch_size / _REFERENCE_BATCH_SIZE
  rate = flags.base_learning_rate * scale
  if flags.use_adam:
    return flags.configure(ConstantRate, _FLAG_NAMES, rate=rate)
  steps_per_epoch = flags.num_train_images / flags.train_batch_size
  if flags.use_sgdr:
    return flags.configure(
      CosineRestarts,
      _FLAG_NAMES,
      rate=rate,
      steps_per_epoch=steps_per_epoch,
      first_epochs=flags.sgdr_decay_step,
      t_mul=flags.sgdr_t_mul,
      m_mul=flags.sgdr_m_mul,
    )
  is_mobilenet = flags.model_architecture.startswith("mobilenet")
  multipliers, epochs = MOBILENET_DROPS if is_mobilenet else RESNET_DROPS
  return flags.configure(
    DropsByEpoch,
    _FLAG_NAMES,
    rate=rate,
    steps_per_epoch=steps_per_epoch,
    multipliers=multipliers,
    epochs=epochs,
    stretch=flags.training_steps_multiplier,
  )
