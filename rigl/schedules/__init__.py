# SPDX-License-Identifier: Apache-2.0
"""Schedules of mask updates, sparsities and learning rates.

They are pure functions of the step: NumPy answers on the host and, with
`ops=tf`, TensorFlow inside a graph.
"""

from rigl.schedules.exploration import (
  drop_fraction_for_exploration,
  expected_explored_share,
  frequency_for_exploration,
)
from rigl.schedules.learning_rates import (
  MOBILENET_DROPS,
  RESNET_DROPS,
  ConstantRate,
  CosineRestarts,
  DropsByEpoch,
  LearningRate,
  PiecewiseConstant,
)
from rigl.schedules.mask_updates import KNOWN_ANNEALS, UpdateSchedule
from rigl.schedules.pruning import PruningSchedule
from rigl.schedules.published_rates import (
  MNIST_BASELINE_DROPS,
  cifar_learning_rate,
  mnist_learning_rate,
)

__all__ = [
  "KNOWN_ANNEALS",
  "MNIST_BASELINE_DROPS",
  "MOBILENET_DROPS",
  "RESNET_DROPS",
  "ConstantRate",
  "CosineRestarts",
  "DropsByEpoch",
  "LearningRate",
  "PiecewiseConstant",
  "PruningSchedule",
  "UpdateSchedule",
  "cifar_learning_rate",
  "drop_fraction_for_exploration",
  "expected_explored_share",
  "frequency_for_exploration",
  "mnist_learning_rate",
]
