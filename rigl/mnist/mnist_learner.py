"""What learns on MNIST, as the flags say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rigl.config.method_flags import create_optimizer
from rigl.configurable import configurable
from rigl.mnist.mnist_model import MnistFc, MnistTask
from rigl.mnist.mnist_settings import MnistSettings
from rigl.schedules import PiecewiseConstant
from rigl.training.train_state import Learner, Wrap, unwrapped
from rigl.types import Variable

_BASELINE_DROPS = (60, 70, 80)
_LR_FACTOR = 3


@configurable()
def mnist_learning_rate(
  base: float, drop_epochs: Sequence[int], steps_per_epoch: int
) -> PiecewiseConstant:
  """The learning rate, divided by 3 after each of some epochs.

  Args:
    base: the initial learning rate.
    drop_epochs: ascending epochs.
    steps_per_epoch: training steps an epoch.
  """
  return PiecewiseConstant(
    tuple(epoch * steps_per_epoch for epoch in drop_epochs),
    tuple(base / _LR_FACTOR**i for i in range(len(drop_epochs) + 1)),
  )


def make_model(flags: MnistSettings, num_inputs: int) -> MnistFc:
  """Makes the network with its initial weights, for so many pixels."""
  masked = flags.training_method != "baseline"
  return MnistFc(num_inputs, flags.seed, masked)


def make_learner(
  flags: MnistSettings,
  model: MnistFc,
  steps_per_epoch: int,
  global_step: Variable,
  restored: bool = False,
  wrap: Wrap = unwrapped,
) -> Learner:
  """Makes the optimizer of a network and what belongs to it.

  Args:
    flags: the settings.
    model: the network.
    steps_per_epoch: training steps an epoch.
    global_step: int64 variable that gradient steps advance.
    restored: whether masks and weights will come from a checkpoint.
    wrap: puts the optimizer that makes the steps into another one.

  Raises:
    ValueError: if a setting is not as described.
  """
  rate = _learning_rate(flags, steps_per_epoch)
  optimizer = create_optimizer(
    flags,
    wrap(_inner_optimizer(flags, rate, global_step)),
    model.kernels,
    init_masks=not restored,
  )
  variables = {v.name.split(":")[0]: v for v in model.variables}
  return Learner(MnistTask(model), variables, optimizer, global_step, rate)


def _learning_rate(
  flags: MnistSettings, steps_per_epoch: int
) -> PiecewiseConstant:
  first = flags.lr_drop_epoch
  sparse = flags.training_method != "baseline"
  return flags.configure(
    mnist_learning_rate,
    {"base": "learning_rate", "drop_epochs": "lr_drop_epoch"},
    base=flags.learning_rate,
    drop_epochs=(first, first + 20) if sparse else _BASELINE_DROPS,
    steps_per_epoch=steps_per_epoch,
  )


def _inner_optimizer(
  flags: MnistSettings, learning_rate: PiecewiseConstant, step: Variable
) -> tf.compat.v1.train.Optimizer:
  def rate() -> Any:
    return learning_rate.at(tf.cast(step, tf.float32), tf)

  v1 = tf.compat.v1.train
  if flags.optimizer == "adam":
    return v1.AdamOptimizer(rate)
  if flags.optimizer == "sgd":
    return v1.GradientDescentOptimizer(rate)
  return v1.MomentumOptimizer(
    rate, flags.momentum, use_nesterov=flags.use_nesterov
  )
