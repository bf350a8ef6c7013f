"""What learns on ImageNet, as the flags say."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rigl.config.method_flags import create_optimizer
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_task import ImagenetTask
from rigl.imagenet_resnet.learning_rate import create_learning_rate
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.training.train_state import Learner, Wrap, unwrapped
from rigl.types import Variable


def make_task(flags: ImagenetSettings, model: ImageModel) -> ImagenetTask:
  """Makes the task of a network."""
  return ImagenetTask(model, flags.label_smoothing, flags.use_batch_statistics)


def make_learner(
  flags: ImagenetSettings,
  model: ImageModel,
  global_step: Variable,
  masks: dict[str, np.ndarray] | None = None,
  restored: bool = False,
  wrap: Wrap = unwrapped,
) -> Learner:
  """Makes the optimizer of a network and what belongs to it.

  Args:
    flags: the settings.
    model: the network.
    global_step: int64 variable that gradient steps advance.
    masks: initial masks. None: random ones.
    restored: whether masks and weights will come from a checkpoint.
    wrap: puts the optimizer that makes the steps into another one.

  Raises:
    ValueError: if a setting is not as described.
  """
  rate = create_learning_rate(flags)
  inner: tf.compat.v1.train.Optimizer

  def present_rate() -> Any:
    return rate.at(global_step, tf)

  if flags.use_adam:
    inner = tf.compat.v1.train.AdamOptimizer(present_rate)
  else:
    inner = tf.compat.v1.train.MomentumOptimizer(
      present_rate, flags.momentum, use_nesterov=True
    )
  optimizer = create_optimizer(
    flags,
    wrap(inner),
    model.kernels,
    masks,
    model.decays,
    init_masks=not restored,
  )
  return Learner(
    make_task(flags, model),
    model.named_variables,
    optimizer,
    global_step,
    rate,
  )
