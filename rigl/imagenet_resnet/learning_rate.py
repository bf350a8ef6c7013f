"""Learning rates of the published ImageNet recipes, by epochs.

Each schedule answers on the host with NumPy and, with `ops=tf`, in a graph;
all of them compute in float32, as the published graphs did.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rigl.configurable import configurable

# (multipliers, epochs they start at). A first epoch above 0 ends a warm-up.
_DROPS = (1.0, 0.1, 0.01, 0.001, 0.0001), (0, 30, 70, 90, 120)
_MOBILENET_DROPS = (1.0, 0.1, 0.01, 0.001, 0.0003), (8, 40, 75, 95, 120)

_REFERENCE_BATCH_SIZE = 256
_RATE_FLAG = {"rate": "base_learning_rate"}


class LearningRate(Protocol):
  """A learning rate by step."""

  def at(self, step: Any, ops: Any = np) -> Any:
    """The learning rate, a float32 scalar.

    Args:
      step: gradient steps before: a number, or a tensor with `ops=tf`.
      ops: `numpy` or `tensorflow`.
    """


class _ByEpoch:
  """What schedules by epoch share; they have a field `steps_per_epoch`."""

  steps_per_epoch: float

  def at(self, step: Any, ops: Any = np) -> Any:
    """See `LearningRate`."""
    epoch = _float32(step, ops) / np.float32(self.steps_per_epoch)
    return self.at_epoch(epoch, ops)

  def at_epoch(self, epoch: Any, ops: Any = np) -> Any:
    """The learning rate at an epoch, which may have a fraction."""
    raise NotImplementedError


@configurable()
@dataclasses.dataclass(frozen=True)
class DropsByEpoch(_ByEpoch):
  """Falls at some epochs, after a linear warm-up if the first is not 0.

  Attributes:
    rate: the rate that the multipliers are of.
    steps_per_epoch: steps an epoch.
    multipliers: one for each stage.
    epochs: where the stages start, ascending; before the first the rate rises
      linearly from 0 to that of the first stage.
    stretch: multiplies the epochs.
  """

  rate: float
  steps_per_epoch: float
  multipliers: Sequence[float] = _DROPS[0]
  epochs: Sequence[float] = _DROPS[1]
  stretch: float = 1.0

  def __post_init__(self) -> None:
    if len(self.multipliers) != len(self.epochs) or not self.epochs:
      raise ValueError(
        "`multipliers` and `epochs` must be of one length, at least 1, got "
        f"{self.multipliers} and {self.epochs}."
      )
    if list(self.epochs) != sorted(self.epochs) or self.epochs[0] < 0:
      raise ValueError(f"`epochs` must ascend from 0, got {self.epochs}.")

  def at_epoch(self, epoch: Any, ops: Any = np) -> Any:
    """See the base class."""
    epoch = _float32(epoch, ops)
    starts = [np.float32(start * self.stretch) for start in self.epochs]
    rate = np.float32(self.rate * self.multipliers[0])
    found = rate * epoch / starts[0] if starts[0] > 0 else rate
    for start, multiplier in zip(starts, self.multipliers, strict=True):
      stage = np.float32(self.rate * multiplier)
      found = ops.where(epoch < start, found, stage)
    return found


@configurable()
@dataclasses.dataclass(frozen=True)
class CosineRestarts(_ByEpoch):
  """SGDR (Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983).

  Attributes:
    rate: the rate at the start.
    steps_per_epoch: steps an epoch.
    first_epochs: length of the first period in epochs.
    t_mul: how many times longer each period is than the one before.
    m_mul: what each period's first rate is multiplied by.
  """

  rate: float
  steps_per_epoch: float
  first_epochs: float = 5.0
  t_mul: float = 1.5
  m_mul: float = 0.5

  def at_epoch(self, epoch: Any, ops: Any = np) -> Any:
    """See the base class."""
    # In this order of operations, which decides to which period a restart's
    # own step belongs.
    done = _float32(epoch, ops) / np.float32(self.first_epochs)
    t_mul, m_mul = np.float32(self.t_mul), np.float32(self.m_mul)
    one = np.float32(1)
    if self.t_mul == 1.0:
      period = ops.floor(done)
      done = done - period
    else:
      log = ops.math.log if hasattr(ops, "math") else ops.log
      period = ops.floor(log(one - done * (one - t_mul)) / np.log(t_mul))
      before = (one - t_mul**period) / (one - t_mul)
      done = (done - before) / t_mul**period
    wave = one + ops.cos(np.float32(math.pi) * done)
    return np.float32(self.rate) * (np.float32(0.5) * m_mul**period * wave)


@configurable()
@dataclasses.dataclass(frozen=True)
class ConstantRate:
  """The same rate at every step.

  Attributes:
    rate: the rate.
  """

  rate: float

  def at(self, step: Any, ops: Any = np) -> Any:
    """See `LearningRate`."""
    return np.float32(self.rate) + np.float32(0) * _float32(step, ops)


def create_learning_rate(flags: Any) -> LearningRate:
  """Makes the schedule that flags say.

  Args:
    flags: `ImagenetSettings`.
  """
  rate = flags.base_learning_rate * (
    flags.train_batch_size / _REFERENCE_BATCH_SIZE
  )
  if flags.use_adam:
    return flags.configure(ConstantRate, _RATE_FLAG, rate=rate)
  steps = flags.num_train_images / flags.train_batch_size
  if flags.use_sgdr:
    return flags.configure(
      CosineRestarts,
      {
        **_RATE_FLAG,
        "first_epochs": "sgdr_decay_step",
        "t_mul": "sgdr_t_mul",
        "m_mul": "sgdr_m_mul",
      },
      rate=rate,
      steps_per_epoch=steps,
      first_epochs=flags.sgdr_decay_step,
      t_mul=flags.sgdr_t_mul,
      m_mul=flags.sgdr_m_mul,
    )
  mobile = flags.model_architecture.startswith("mobilenet")
  multipliers, epochs = _MOBILENET_DROPS if mobile else _DROPS
  return flags.configure(
    DropsByEpoch,
    {**_RATE_FLAG, "stretch": "training_steps_multiplier"},
    rate=rate,
    steps_per_epoch=steps,
    multipliers=multipliers,
    epochs=epochs,
    stretch=flags.training_steps_multiplier,
  )


def _float32(value: Any, ops: Any) -> Any:
  return ops.cast(value, "float32") if ops is not np else np.float32(value)
