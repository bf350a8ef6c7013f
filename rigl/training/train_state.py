"""What learns: the variables of a task and how they are trained.

A task's script makes it, eagerly for the loop or in a graph for TPUEstimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import tensorflow as tf

from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.base_programs import Task
from rigl.types import Variable

Optimizer: TypeAlias = tf.compat.v1.train.Optimizer


@dataclass(frozen=True)
class Learner:
  """A task and what trains it.

  Attributes:
    task: what is trained.
    variables: all variables of the model by name.
    optimizer: the sparse optimizer, with its masks.
    global_step: int64 variable that gradient steps advance.
    learning_rate: has `at(step)`, the learning rate.
  """

  task: Task
  variables: Mapping[str, Variable]
  optimizer: SparseOptimizer
  global_step: Variable
  learning_rate: Any


# Puts an optimizer that makes steps into another one.
Wrap = Callable[[Optimizer], Optimizer]


def unwrapped(optimizer: Optimizer) -> Optimizer:
  """The `Wrap` that leaves it as it is."""
  return optimizer
