"""What learns on CIFAR-10, as the flags say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_task import CifarTask
from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.config.method_flags import create_optimizer
from rigl.configurable import configurable
from rigl.schedules import PiecewiseConstant
from rigl.training.train_state import Learner, Wrap, unwrapped
from rigl.types import Variable

_LR_BOUNDARIES = (30000, 60000, 90000)
_LR_FACTOR = 5


@configurable(denylist=["multiplier"])
def cifar_learning_rate(
  base: float = 0.1,
  boundaries: Sequence[int] = _LR_BOUNDARIES,
  factor: float = _LR_FACTOR,
  multiplier: float = 1.0,
) -> PiecewiseConstant:
  """The learning rate, divided by a factor after each of some steps.

  Args:
    base: the initial learning rate.
    boundaries: ascending steps.
    factor: what it is divided by.
    multiplier: of the boundaries, `--training_steps_multiplier`.
  """
  return PiecewiseConstant(
    tuple(int(step * multiplier) for step in boundaries),
    tuple(base / factor**i for i in range(len(boundaries) + 1)),
  )


def make_task(flags: CifarSettings, model: WideResNet) -> CifarTask:
  """Makes the task of a network."""
  return CifarTask(
    model, flags.seed, flags.num_classes, flags.per_class_metrics
  )


def make_learner(
  flags: CifarSettings,
  model: WideResNet,
  global_step: Variable,
  masks: Mapping[str, np.ndarray] | None = None,
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
  rate = cifar_learning_rate(multiplier=flags.training_steps_multiplier)
  inner = tf.compat.v1.train.MomentumOptimizer(
    lambda: rate.at(tf.cast(global_step, tf.float32), tf),
    flags.momentum,
    use_nesterov=True,
  )
  optimizer = create_optimizer(
    flags, wrap(inner), model.kernels, masks, init_masks=not restored
  )
  variables = {v.name.split(":")[0]: v for v in model.variables}
  task = make_task(flags, model)
  return Learner(task, variables, optimizer, global_step, rate)
