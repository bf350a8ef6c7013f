# SPDX-License-Identifier: Apache-2.0
"""Task and train state of the CIFAR-10 script."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_task import CifarTask
from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.schedules import cifar_learning_rate
from rigl.training.build_state import make_train_state
from rigl.training.train_state import OptimizerWrapper, TrainState, identity
from rigl.types import Variable


def make_task(flags: CifarSettings, model: WideResNet) -> CifarTask:
  """Makes the task of a network."""
  return CifarTask(
    model, flags.seed, flags.num_classes, flags.per_class_metrics
  )


def make_state(
  flags: CifarSettings,
  model: WideResNet,
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
    cifar_learning_rate(multiplier=flags.training_steps_multiplier),
    global_step,
    momentum=flags.momentum,
    masks=masks,
    init_masks=init_masks,
    optimizer_wrapper=optimizer_wrapper,
  )
