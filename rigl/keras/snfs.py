# SPDX-License-Identifier: Apache-2.0
"""SNFS for Keras: drop by magnitude, grow by the average gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl.checks import check_number
from rigl.keras import replicas
from rigl.keras.drop_grow import DropGrowOptimizer
from rigl.keras.kernels import Filters
from rigl.keras.sparse_kernel import SparseKernel
from rigl.keras.sparsities import Distribution
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers.dense_rows import (
  RowSignal,
  rows_of,
  update_average,
)
from rigl.sparse_optimizers.sparse_layer import CompactLayer
from rigl.types import Tensor, Variable


@keras.saving.register_keras_serializable(package="rigl")
class SNFS(DropGrowOptimizer):
  """SNFS: grows connections by the moving average of the dense gradient.

  Every gradient step first updates the average, which starts at 0 and is not
  debiased:

      average = momentum * average + (1 - momentum) * gradient.

  After the gradient step of an update, in every sparse variable of n active
  connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many of largest |average| among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. A connection can be dropped
  and grown back at once; it then keeps its weight. Others start at `grow_init`,
  with fresh slots.

  Dettmers & Zettlemoyer, 2019, https://arxiv.org/abs/1907.04840, section 3, as
  in the code of Evci et al.: sparsity is not redistributed between layers.

  The average has the size of the whole kernel, also for layers that store only
  their active connections (`rigl.sparse`). They form their dense gradient in
  every step then, for a block of rows at a time, which costs as much as a dense
  product; RigL needs neither.

  Args:
    momentum: weight of the past in the average, in [0, 1].

  Raises:
    ValueError: if an argument is not as described. `build` raises it if the
      sparsity cannot be distributed over the variables.

  Example:
    >>> optimizer = SNFS("adamw", sparsity=0.9)
    >>> model.compile(optimizer, "mse")
  """

  accumulates_dense = True
  needs_batches = True

  takes_block_layers = False

  def __init__(
    self,
    optimizer: Any,
    sparsity: float | None = None,
    *,
    distribution: Distribution | None = None,
    begin_step: int = 0,
    end_step: int | None = None,
    frequency: int = 100,
    drop_fraction: float = 0.3,
    anneal: str = "cosine",
    grow_init: str = "zeros",
    momentum: float = 0.9,
    filters: Filters = None,
    seed: int = 0,
    noise_std: float = 1e-5,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    track_exploration: bool = False,
    name: str | None = None,
    **kwargs: Any,
  ) -> None:
    check_number("momentum", momentum, 0, 1)
    super().__init__(
      optimizer,
      sparsity,
      distribution=distribution,
      begin_step=begin_step,
      end_step=end_step,
      frequency=frequency,
      drop_fraction=drop_fraction,
      anneal=anneal,
      grow_init=grow_init,
      filters=filters,
      seed=seed,
      noise_std=noise_std,
      mask_engine=mask_engine,
      structure=structure,
      track_exploration=track_exploration,
      name=name,
      **kwargs,
    )
    self._momentum = float(momentum)
    self._averages: dict[str, keras.Variable] = {}

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    return super().get_config() | {"momentum": self._momentum}

  def _create_state(self) -> None:
    super()._create_state()
    for kernel in self._kernels:
      self._averages[kernel.path] = (
        self.add_variable_from_reference(kernel.variable, "average_gradient")
        if kernel.compact is None
        else self.add_variable(
          kernel.shape, "zeros", kernel.variable.dtype, name="average_gradient"
        )
      )

  def _train(
    self,
    grads: Sequence[Any],
    variables: list[Variable],
    present: Mapping[str, Any],
  ) -> None:
    # TensorFlow orders operations by the variables that they take, but not
    # functions of the host.
    with tf.control_dependencies(self._average(present)):
      super()._train(grads, variables, present)

  def _average(self, present: Mapping[str, Any]) -> list[tf.Operation]:
    """Updates the averages at the last call of `apply` of a step.

    Returns:
      Operations that must come before the step.
    """
    operations = []
    kernels = [k for k in self._kernels if k.path in present]
    completes = self._completes_step()
    means = self._mean_gradients(kernels, present)
    for kernel, gradient in zip(kernels, means, strict=True):
      average = self._averages[kernel.path]
      if kernel.compact is not None:
        operations += self._average_rows(
          average.value, kernel.compact, gradient, completes
        )
        continue
      value = tf.convert_to_tensor(average)
      decay = tf.cast(1.0 - self._momentum, value.dtype)
      change = decay * (tf.cast(gradient, value.dtype) - value)
      replicas.assign(average, tf.where(completes, value + change, value))
    return operations

  def _signals(
    self, kernels: Sequence[SparseKernel], present: Mapping[str, Any]
  ) -> list[Tensor | None]:
    return [
      tf.convert_to_tensor(self._averages[kernel.path])
      if kernel.compact is None
      else None
      for kernel in kernels
    ]

  def _average_rows(
    self,
    average: Variable,
    compact: CompactLayer,
    gradient: Tensor,
    completes: Tensor,
  ) -> list[tf.Operation]:
    """Updates the average of a layer that stores only active connections."""

    def update(positions: Tensor, sampled: Tensor, completes: Tensor) -> None:
      if completes:
        signal = self._dense_gradient(
          compact, positions.numpy(), sampled.numpy()
        )
        update_average(average, 1.0 - self._momentum, signal)

    inputs = [tf.convert_to_tensor(compact.positions), gradient, completes]
    if tf.executing_eagerly():
      update(*inputs)
      return []
    return [tf.py_function(update, inputs, [])]

  def _signal_of_rows(
    self,
    kernel: SparseKernel,
    compact: CompactLayer,
    positions: np.ndarray,
    sampled: np.ndarray,
  ) -> RowSignal:
    del compact, positions, sampled
    return rows_of(self._averages[kernel.path].value)

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.abs(signal)
