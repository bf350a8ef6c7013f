# SPDX-License-Identifier: Apache-2.0
"""Learning rates by step or epoch.

Each schedule answers on the host with NumPy and, with `ops=tf`, in a graph; all
of them compute in float32, as the published graphs did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rigl.checks import check_number, check_numbers
from rigl.configurable import configurable
from rigl.schedules.float32 import HALF, ONE, PI, ZERO, to_float32, unwrap

# Published drops: (multipliers, epochs they start at). A first epoch above 0
# ends a warm-up.
RESNET_DROPS = (1.0, 0.1, 0.01, 0.001, 0.0001), (0, 30, 70, 90, 120)
MOBILENET_DROPS = (1.0, 0.1, 0.01, 0.001, 0.0003), (8, 40, 75, 95, 120)


class LearningRate(Protocol):
  """Interface of a learning rate."""

  def at(self, step: Any, ops: Any = np) -> Any:
    """The learning rate, a float32 scalar.

    Args:
      step: gradient steps before: a number, or a tensor with `ops=tf`.
      ops: `numpy` or `tensorflow`.
    """


@dataclass(frozen=True)
class PiecewiseConstant:
  """A value that changes after given steps, such as a learning rate.

  >>> rate = PiecewiseConstant((100, 200), (1.0, 0.5, 0.25))
  >>> [float(rate.at(step)) for step in (0, 100, 101, 201)]
  [1.0, 1.0, 0.5, 0.25]

  Args:
    boundaries: increasing steps; a boundary still has the value before it.
    values: finite, one more than there are boundaries.

  Raises:
    ValueError: if an argument is not as described.
  """

  boundaries: tuple[float, ...]
  values: tuple[float, ...]

  def __post_init__(self) -> None:
    for name in ("boundaries", "values"):
      check_numbers(name, getattr(self, name))
    # A configuration file may bring lists, which would not hash.
    object.__setattr__(self, "boundaries", tuple(self.boundaries))
    object.__setattr__(self, "values", tuple(self.values))
    pairs = zip(self.boundaries, self.boundaries[1:], strict=False)
    if not all(a < b for a, b in pairs):
      raise ValueError(f"`boundaries` must increase, got {self.boundaries}.")
    if len(self.values) != len(self.boundaries) + 1:
      raise ValueError(
        "`values` must be one more than the boundaries "
        f"({len(self.boundaries)}), got {len(self.values)}."
      )
    if not all(math.isfinite(value) for value in self.values):
      raise ValueError(f"`values` must be finite, got {self.values}.")

  def at(self, step: Any, ops: Any = np) -> Any:
    """The value at `step`.

    Args:
      step: the step: numbers, or tensors together with `ops=tf`.
      ops: module with `where`.

    Returns:
      float32 of the shape of `step`: `values[i]` for the first i with
      `step <= boundaries[i]`, else the last value.
    """
    result = np.float32(self.values[-1])
    for i in reversed(range(len(self.boundaries))):
      value = np.float32(self.values[i])
      result = ops.where(step <= self.boundaries[i], value, result)
    return unwrap(result)


class _ByEpoch:
  """Base of schedules by epoch; subclasses have a field `steps_per_epoch`."""

  steps_per_epoch: float

  def at(self, step: Any, ops: Any = np) -> Any:
    """The learning rate at a step, a float32 scalar.

    Args:
      step: gradient steps before: a number, or a tensor with `ops=tf`.
      ops: `numpy` or `tensorflow`.
    """
    epoch = to_float32(step, ops) / np.float32(self.steps_per_epoch)
    return self.at_epoch(epoch, ops)

  def at_epoch(self, epoch: Any, ops: Any = np) -> Any:
    """The learning rate at an epoch, which may have a fraction.

    Args:
      epoch: a number, or a tensor with `ops=tf`.
      ops: `numpy` or `tensorflow`.
    """
    raise NotImplementedError


@configurable()
@dataclass(frozen=True)
class DropsByEpoch(_ByEpoch):
  """Learning rate that drops at some epochs, after an optional linear warm-up.

  Attributes:
    rate: the rate that the multipliers multiply.
    steps_per_epoch: steps per epoch, above 0.
    multipliers: factor of the rate in each stage.
    epochs: where the stages start, ascending from 0 or later, as many as there
      are multipliers and at least one. Before the first stage the rate rises
      linearly from 0 to that of the first stage.
    stretch: multiplies the epochs, at least 0.

  Raises:
    ValueError: if an argument is not as described.
  """

  rate: float
  steps_per_epoch: float
  multipliers: Sequence[float] = RESNET_DROPS[0]
  epochs: Sequence[float] = RESNET_DROPS[1]
  stretch: float = 1.0

  def __post_init__(self) -> None:
    check_number("rate", self.rate)
    check_number("steps_per_epoch", self.steps_per_epoch, 0, above=True)
    check_number("stretch", self.stretch, 0)
    for name in ("multipliers", "epochs"):
      check_numbers(name, getattr(self, name))
    if len(self.multipliers) != len(self.epochs) or not self.epochs:
      raise ValueError(
        "`multipliers` and `epochs` must be of one length, at least 1, got "
        f"{self.multipliers} and {self.epochs}."
      )
    if list(self.epochs) != sorted(self.epochs) or self.epochs[0] < 0:
      raise ValueError(f"`epochs` must ascend from 0, got {self.epochs}.")

  def at_epoch(self, epoch: Any, ops: Any = np) -> Any:
    """The rate of the stage that holds the epoch, or of the warm-up."""
    epoch = to_float32(epoch, ops)
    starts = [np.float32(start * self.stretch) for start in self.epochs]
    rate = np.float32(self.rate * self.multipliers[0])
    found = rate * epoch / starts[0] if starts[0] > 0 else rate
    for start, multiplier in zip(starts, self.multipliers, strict=True):
      stage = np.float32(self.rate * multiplier)
      found = ops.where(epoch < start, found, stage)
    return found


@configurable()
@dataclass(frozen=True)
class CosineRestarts(_ByEpoch):
  """Cosine with restarts, SGDR (Loshchilov & Hutter, 2017).

  https://arxiv.org/abs/1608.03983

  Attributes:
    rate: the rate at the start.
    steps_per_epoch: steps per epoch, above 0.
    first_epochs: length of the first period in epochs, above 0.
    t_mul: how many times longer each period is than the one before, above 0.
    m_mul: factor of the rate from period to period, at least 0.

  Raises:
    ValueError: if an argument is not as described.
  """

  rate: float
  steps_per_epoch: float
  first_epochs: float = 5.0
  t_mul: float = 1.5
  m_mul: float = 0.5

  def __post_init__(self) -> None:
    check_number("rate", self.rate)
    check_number("steps_per_epoch", self.steps_per_epoch, 0, above=True)
    check_number("first_epochs", self.first_epochs, 0, above=True)
    check_number("t_mul", self.t_mul, 0, above=True)
    check_number("m_mul", self.m_mul, 0)

  def at_epoch(self, epoch: Any, ops: Any = np) -> Any:
    """The rate on the cosine of the period that holds the epoch."""
    # In this order of operations, which decides to which period a restart's
    # own step belongs.
    done = to_float32(epoch, ops) / np.float32(self.first_epochs)
    t_mul, m_mul = np.float32(self.t_mul), np.float32(self.m_mul)
    if self.t_mul == 1.0:
      period = ops.floor(done)
      done = done - period
    else:
      log = ops.math.log if hasattr(ops, "math") else ops.log
      period = ops.floor(log(ONE - done * (ONE - t_mul)) / np.log(t_mul))
      before = (ONE - t_mul**period) / (ONE - t_mul)
      done = (done - before) / t_mul**period
    wave = ONE + ops.cos(PI * done)
    return np.float32(self.rate) * (HALF * m_mul**period * wave)


@configurable()
@dataclass(frozen=True)
class ConstantRate:
  """Learning rate that is the same at every step.

  Attributes:
    rate: the rate.
  """

  rate: float

  def __post_init__(self) -> None:
    check_number("rate", self.rate)

  def at(self, step: Any, ops: Any = np) -> Any:
    """The learning rate at a step, a float32 scalar.

    Args:
      step: gradient steps before: a number, or a tensor with `ops=tf`.
      ops: `numpy` or `tensorflow`.
    """
    return np.float32(self.rate) + ZERO * to_float32(step, ops)
