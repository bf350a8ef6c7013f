# SPDX-License-Identifier: Apache-2.0
"""The learning rates of the published MNIST and CIFAR-10 recipes."""

from __future__ import annotations

from collections.abc import Sequence

from rigl.checks import check_number, check_numbers
from rigl.configurable import configurable
from rigl.schedules.learning_rates import PiecewiseConstant

# Epochs at which the dense MNIST network divides its rate.
MNIST_BASELINE_DROPS = (60, 70, 80)

_MNIST_FACTOR = 3
_CIFAR_BOUNDARIES = (30000, 60000, 90000)
_CIFAR_FACTOR = 5


@configurable()
def mnist_learning_rate(
  base: float, drop_epochs: Sequence[int], steps_per_epoch: int
) -> PiecewiseConstant:
  """Learning rate of the MNIST script: divided by 3 after some epochs.

  Args:
    base: the initial learning rate.
    drop_epochs: ascending epochs.
    steps_per_epoch: training steps per epoch.

  Raises:
    ValueError: if an argument is no number, or no sequence of them.
  """
  check_number("base", base)
  check_numbers("drop_epochs", drop_epochs)
  check_number("steps_per_epoch", steps_per_epoch, 0, above=True)
  return PiecewiseConstant(
    tuple(epoch * steps_per_epoch for epoch in drop_epochs),
    tuple(base / _MNIST_FACTOR**i for i in range(len(drop_epochs) + 1)),
  )


@configurable(denylist=["multiplier"])
def cifar_learning_rate(
  base: float = 0.1,
  boundaries: Sequence[int] = _CIFAR_BOUNDARIES,
  factor: float = _CIFAR_FACTOR,
  multiplier: float = 1.0,
) -> PiecewiseConstant:
  """Learning rate of the CIFAR-10 script: divided after some steps.

  Args:
    base: the initial learning rate.
    boundaries: ascending steps.
    factor: the divisor.
    multiplier: factor of the boundaries, `--training_steps_multiplier`.

  Raises:
    ValueError: if an argument is no number, or no sequence of them.
  """
  check_number("base", base)
  check_numbers("boundaries", boundaries)
  check_number("factor", factor, 0, above=True)
  check_number("multiplier", multiplier, 0)
  return PiecewiseConstant(
    tuple(int(step * multiplier) for step in boundaries),
    tuple(base / factor**i for i in range(len(boundaries) + 1)),
  )
