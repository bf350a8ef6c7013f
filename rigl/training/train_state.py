# SPDX-License-Identifier: Apache-2.0
"""Train state: model, sparse optimizer, step counter, learning rate.

A checkpoint holds all of it. A task builds it, eagerly or in the graph of a
TPUEstimator.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from rigl import files
from rigl.schedules import LearningRate
from rigl.sparse_optimizers import SparseOptimizer
from rigl.tensor_names import GLOBAL_STEP, mask_of
from rigl.training import checkpoint_masks, checkpoints
from rigl.training.checkpoint_masks import ITERATION
from rigl.training.task import Task
from rigl.types import Variable

Optimizer: TypeAlias = tf.compat.v1.train.Optimizer
# Wraps an optimizer that makes steps.
OptimizerWrapper: TypeAlias = Callable[[Optimizer], Optimizer]


def identity(optimizer: Optimizer) -> Optimizer:
  """The wrapper that returns the optimizer itself."""
  return optimizer


def new_global_step() -> Variable:
  """Creates the variable that counts gradient steps."""
  return tf.Variable(0, dtype=tf.int64, name=GLOBAL_STEP)


@dataclasses.dataclass
class TrainState:
  """Everything that training changes.

  Attributes:
    task: the task to train.
    variables: all variables of the model, and of the data source, by name.
    optimizer: the sparse optimizer, with its masks.
    global_step: int64 variable that gradient steps advance.
    learning_rate: the schedule of the learning rate.
    iteration: number of iterations so far: gradient steps, and mask updates
      that took the place of one.
    num_restored: how often a checkpoint was restored.
    convert_checkpoint: converts the checkpoint of another program to one of
      this state; gets and returns arrays by name.
    is_repaired: whether the checkpoint that was restored had weights off its
      masks, which are zero now.
  """

  task: Task
  variables: Mapping[str, Variable]
  optimizer: SparseOptimizer
  global_step: Variable
  learning_rate: LearningRate
  iteration: int = 0
  num_restored: int = 0
  convert_checkpoint: Callable[[dict[str, Any]], dict[str, Any]] = lambda t: t
  is_repaired: bool = False

  @property
  def step(self) -> int:
    """Number of gradient steps so far."""
    return int(self.global_step.numpy())

  @property
  def all_variables(self) -> dict[str, Variable]:
    """The variables by name: of the model, of the optimizer, and the step."""
    return {
      **self.variables,
      **self.optimizer.state(),
      GLOBAL_STEP: self.global_step,
    }

  def non_finite(self) -> str | None:
    """The name of the first variable with a value that is not finite."""
    floats = {
      name: variable
      for name, variable in self.all_variables.items()
      if variable.dtype.is_floating
    }
    if not floats:
      return None
    # A TPU would compile an operation for every shape.
    has_tpu = bool(tf.config.list_logical_devices("TPU"))
    with tf.device("CPU:0") if has_tpu else contextlib.nullcontext():
      finite = tf.stack(
        [
          tf.reduce_all(tf.math.is_finite(variable.read_value()))
          for variable in floats.values()
        ]
      )
    bad = [
      n for n, good in zip(floats, finite.numpy(), strict=True) if not good
    ]
    return bad[0] if bad else None

  def save(
    self, directory: files.Path, number: int, keep: int = 2, writes: bool = True
  ) -> str:
    """Writes a checkpoint.

    Args:
      directory: the directory to write to.
      number: the number in its name; it grows during the run.
      keep: how many checkpoints to keep; 0 keeps all.
      writes: whether this process writes it. Every host has to call this,
        because reading the variables may need all of them.

    Returns:
      The prefix of the checkpoint.
    """
    tensors = {
      **self.variables,
      **self.optimizer.checkpoint_state(),
      GLOBAL_STEP: self.global_step,
      ITERATION: np.int64(self.iteration),
    }
    return checkpoints.save(directory, number, tensors, keep, writes)

  def restore(self, directory: files.Path) -> bool:
    """Restores the newest checkpoint; returns whether there was one.

    Raises:
      ValueError: if it is damaged or does not fit.
    """
    tensors = checkpoints.load_latest(directory)
    if tensors is None:
      return False
    self._assign(tensors, directory)
    return True

  def load(self, prefix: str) -> None:
    """Restores one checkpoint.

    Raises:
      FileNotFoundError: if it does not exist.
      ValueError: if it is damaged or does not fit.
    """
    self._assign(checkpoints.load_present(prefix), prefix)

  def _assign(self, tensors: dict[str, Any], place: files.Path) -> None:
    tensors = self.convert_checkpoint(tensors)
    if ITERATION not in tensors:
      raise ValueError(
        f"`{place}` holds a checkpoint of another program: {ITERATION} is "
        "missing."
      )
    checkpoints.check_fits("The checkpoint", tensors, self.all_variables)
    self.is_repaired = checkpoint_masks.disagree(
      f"`{place}`", tensors, self._kernel_names()
    )
    checkpoints.restore(tensors, self.all_variables)
    if self.is_repaired:
      self.optimizer.apply_masks()
    self.iteration = int(tensors[ITERATION])
    self.num_restored += 1

  def _kernel_names(self) -> dict[str, str]:
    """Names of the kernels by those of their masks, as in checkpoints."""
    names = {id(variable): name for name, variable in self.variables.items()}
    return {
      mask_of(layer.name): names.get(id(layer.kernel), "")
      for layer in self.optimizer.layers
      if not layer.structure  # Others have no weights off their masks.
    }
