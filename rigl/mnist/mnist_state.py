# SPDX-License-Identifier: Apache-2.0
"""Model and train state of the MNIST script."""

from __future__ import annotations

from rigl.mnist.mnist_model import MnistFc, MnistTask
from rigl.mnist.mnist_settings import MnistSettings
from rigl.schedules import (
  MNIST_BASELINE_DROPS,
  ConstantRate,
  LearningRate,
  mnist_learning_rate,
)
from rigl.sparse_optimizers import registry
from rigl.training.build_state import make_train_state
from rigl.training.train_state import OptimizerWrapper, TrainState, identity
from rigl.types import Variable


def make_model(flags: MnistSettings, num_inputs: int) -> MnistFc:
  """Makes the network with its initial weights.

  Args:
    flags: the settings.
    num_inputs: number of pixels.
  """
  masked = flags.training_method != registry.BASELINE
  return MnistFc(num_inputs, flags.seed, masked)


def make_state(
  flags: MnistSettings,
  model: MnistFc,
  steps_per_epoch: int,
  global_step: Variable,
  init_masks: bool = True,
  optimizer_wrapper: OptimizerWrapper = identity,
) -> TrainState:
  """Makes the train state of a network.

  Args:
    flags: the settings.
    model: the network.
    steps_per_epoch: training steps per epoch.
    global_step: int64 variable that gradient steps advance.
    init_masks: whether to make initial masks. False where they will come from
      a checkpoint.
    optimizer_wrapper: wraps the optimizer that makes the steps.

  Raises:
    ValueError: if a setting is outside its range.
  """
  return make_train_state(
    flags,
    MnistTask(model),
    model.kernels,
    model.named_variables,
    make_learning_rate(flags, steps_per_epoch),
    global_step,
    inner=flags.optimizer,
    momentum=flags.momentum,
    use_nesterov=flags.use_nesterov,
    init_masks=init_masks,
    optimizer_wrapper=optimizer_wrapper,
  )


def make_learning_rate(
  flags: MnistSettings, steps_per_epoch: int
) -> LearningRate:
  """Makes the learning rate of the flags; that of Adam is constant.

  Args:
    flags: the settings.
    steps_per_epoch: training steps per epoch.
  """
  names = {
    "rate": "learning_rate",
    "base": "learning_rate",
    "drop_epochs": "lr_drop_epoch",
  }
  if flags.optimizer == "adam":
    return flags.configure(ConstantRate, names, rate=flags.learning_rate)
  drops = (flags.lr_drop_epoch, flags.lr_drop_epoch + 20)
  is_dense = flags.training_method == registry.BASELINE
  return flags.configure(
    mnist_learning_rate,
    names,
    base=flags.learning_rate,
    drop_epochs=MNIST_BASELINE_DROPS if is_dense else drops,
    steps_per_epoch=steps_per_epoch,
  )
