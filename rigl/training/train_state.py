"""Train state: model variables, sparse optimizer, step counter, learning rate.

A task makes it eagerly for the loop, or in the graph of a TPUEstimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import tensorflow as tf

from rigl.schedules import LearningRate
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.base_programs import Task
from rigl.types import Variable

Optimizer: TypeAlias = tf.compat.v1.train.Optimizer


@dataclass(frozen=True)
class TrainState:
  """A task and what trains it.

  Attributes:
    task: what is trained.
    variables: all variables of the model by name.
    optimizer: the sparse optimizer, with its masks.
    global_step: int64 variable that gradient steps advance.
    learning_rate: schedule of the learning rate.
  """

  task: Task
  variables: Mapping[str, Variable]
  optimizer: SparseOptimizer
  global_step: Variable
  learning_rate: LearningRate


# Wraps an optimizer that makes steps.
OptimizerWrapper: TypeAlias = Callable[[Optimizer], Optimizer]


def identity(optimizer: Optimizer) -> Optimizer:
  """The wrapper that returns the optimizer itself."""
  return optimizer
