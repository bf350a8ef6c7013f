# SPDX-License-Identifier: Apache-2.0
"""Builds the train state of any task from its model and its flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from rigl.config.method_flags import MethodFlags
from rigl.config.method_optimizer import create_optimizer
from rigl.schedules import LearningRate
from rigl.training.task import Task
from rigl.training.train_state import (
  Optimizer,
  OptimizerWrapper,
  TrainState,
  identity,
)
from rigl.types import Tensor, Variable


def make_train_state(
  flags: MethodFlags,
  task: Task,
  kernels: Mapping[str, Variable],
  variables: Mapping[str, Variable],
  learning_rate: LearningRate,
  global_step: Variable,
  *,
  inner: str = "momentum",
  momentum: float = 0.9,
  use_nesterov: bool = True,
  masks: Mapping[str, np.ndarray] | None = None,
  weight_decay_filter: Callable[[Variable], bool] | None = None,
  init_masks: bool = True,
  optimizer_wrapper: OptimizerWrapper = identity,
) -> TrainState:
  """Makes the sparse optimizer of the flags and the train state around it.

  Args:
    flags: the flags of the training method.
    task: the task to train.
    kernels: the kernels to sparsify, by layer name.
    variables: all variables of the model, by name.
    learning_rate: schedule of the learning rate.
    global_step: int64 variable that gradient steps advance.
    inner: optimizer that makes the steps: `momentum`, `adam` or `sgd`.
    momentum: of `momentum`, in [0, 1).
    use_nesterov: whether `momentum` is Nesterov's.
    masks: initial masks by layer name. None: random ones.
    weight_decay_filter: returns whether a variable has weight decay. None: all
      of rank 2 and more.
    init_masks: whether to make initial masks. False where they will come from
      a checkpoint.
    optimizer_wrapper: wraps the optimizer that makes the steps.

  Raises:
    ValueError: if a flag is outside its range.
  """

  def rate() -> Tensor:
    return learning_rate.at(tf.cast(global_step, tf.float32), tf)

  optimizer = create_optimizer(
    flags,
    optimizer_wrapper(_inner_optimizer(inner, rate, momentum, use_nesterov)),
    kernels,
    masks,
    weight_decay_filter,
    init_masks,
  )
  return TrainState(task, variables, optimizer, global_step, learning_rate)


def _inner_optimizer(
  name: str, rate: Callable[[], Tensor], momentum: float, use_nesterov: bool
) -> Optimizer:
  v1 = tf.compat.v1.train
  if name == "adam":
    return v1.AdamOptimizer(rate)
  if name == "sgd":
    return v1.GradientDescentOptimizer(rate)
  return v1.MomentumOptimizer(rate, momentum, use_nesterov=use_nesterov)
