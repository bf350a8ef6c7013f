# SPDX-License-Identifier: Apache-2.0
"""RigL for Keras: drop by magnitude, grow by the gradient of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl.keras import replicas
from rigl.keras.block_layers import gradient_norms
from rigl.keras.compact_layers import SparseStorage
from rigl.keras.drop_grow import DropGrowOptimizer
from rigl.keras.kernels import Filters
from rigl.keras.sparse_kernel import SparseKernel
from rigl.keras.sparsities import Distribution
from rigl.keras.update_schedules import update_schedule
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers.dense_rows import RowSignal
from rigl.sparse_optimizers.drop_grow_options import LAYER_FLOOR
from rigl.sparse_optimizers.grow_batches import check_grow_batches
from rigl.sparse_optimizers.grow_init import GRADIENT_METHODS, WEIGHT_METHODS
from rigl.sparse_optimizers.sparse_layer import BlockLayer, CompactLayer
from rigl.types import Tensor, Variable

# Name of the number of batches in the sums, as in checkpoints of the scripts.
_GROW_COUNT = "grow_gradient_batches"


@keras.saving.register_keras_serializable(package="rigl")
class RigL(DropGrowOptimizer):
  """RigL: grows connections by the magnitude of the dense gradient.

  An update replaces a gradient step: its batch gives the gradient only, and
  `iterations` does not advance. In every sparse variable of n active
  connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many of largest |gradient| among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. A connection can be dropped and grown
  back at once; it then keeps its weight. Others start at `grow_init`, with
  fresh slots. Updates use one of every `frequency` batches, 1 % by default, for
  which no weight is trained.

  Evci et al., 2020, https://arxiv.org/abs/1911.11134, Algorithm 1, whose
  frequency, drop fraction and annealing are the defaults.

  Args:
    grow_init: initial weights of grown connections: `zeros`; `initial_dist`,
      drawn from the initial weights of the variable; `random_normal`, with the
      standard deviation of the active weights; `random_uniform`, in plus or
      minus their mean magnitude; `grad_scale`, the gradient; or `grad_sign`,
      its sign. All but `zeros` may be followed by `_K` to divide by K > 0, such
      as `random_normal_10`.
    grow_batches: number n of batches whose dense gradients are averaged for
      the growth scores: those of the last n - 1 gradient steps before an
      update and that of the update, from 1 to `frequency`. Above 1 it keeps one
      dense gradient per variable, in checkpoints as well; steps outside of the
      last n - 1 cost nothing.

  Raises:
    ValueError: if an argument is not as described. `build` raises it if the
      sparsity cannot be distributed over the variables.

  Example:
    >>> optimizer = RigL(keras.optimizers.SGD(0.1, momentum=0.9), sparsity=0.9)
    >>> model.compile(optimizer, "mse")
  """

  grow_inits = (*WEIGHT_METHODS, *GRADIENT_METHODS)
  update_is_iteration = True
  accumulates_dense = True
  needs_batches = True
  takes_options = True

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
    filters: Filters = None,
    seed: int = 0,
    noise_std: float = 1e-5,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    grow_batches: int = 1,
    track_exploration: bool = False,
    soft_memory: bool = False,
    across_layers: bool = False,
    layer_floor: float = LAYER_FLOOR,
    drop_gradient_weight: float = 0.0,
    name: str | None = None,
    **kwargs: Any,
  ) -> None:
    update_schedule(begin_step, end_step, frequency, drop_fraction, anneal)
    check_grow_batches(grow_batches, frequency)
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
      soft_memory=soft_memory,
      across_layers=across_layers,
      layer_floor=layer_floor,
      drop_gradient_weight=drop_gradient_weight,
      name=name,
      **kwargs,
    )
    self._grow_batches = int(grow_batches)
    self._grow_sums: dict[str, keras.Variable] = {}

  @property
  def grow_gradients(self) -> dict[str, keras.Variable]:
    """{path: sum of the gradients since the last update, with `grow_batches`}.

    Empty if that is 1, or before the optimizer is built.
    """
    return dict(self._grow_sums)

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    return super().get_config() | {"grow_batches": self._grow_batches}

  def _distribute(
    self,
    shapes: dict[str, tuple[int, ...]],
    stored: Mapping[str, SparseStorage],
  ) -> dict[str, float]:
    if stored and self._grow_batches > 1:
      raise ValueError(
        "`grow_batches` must be 1 with layers that store only their active "
        f"connections or blocks, such as {next(iter(stored))!r}, which keep "
        "what the gradient of one batch is made of."
      )
    return super()._distribute(shapes, stored)

  def _create_state(self) -> None:
    super()._create_state()
    if self._grow_batches == 1:
      return
    self._grow_count = self._new_counter(0, _GROW_COUNT)
    for kernel in self._kernels:
      self._grow_sums[kernel.path] = self.add_variable_from_reference(
        kernel.variable, "grow_gradient"
      )

  @property
  def counters(self) -> dict[str, keras.Variable]:
    """{name in the checkpoints of the scripts: int64 scalar} of what it counts.

    `grow_gradient_batches` is the number of gradients in `grow_gradients`.
    """
    if not self.built or self._grow_batches == 1:
      return super().counters
    return super().counters | {_GROW_COUNT: self._grow_count}

  def start_slots_anew(self) -> None:
    """Starts slots, and what is noted of mask updates, anew."""
    super().start_slots_anew()
    with self._variable_scope():
      self._forget_gradients()

  def _step(
    self,
    grads: Sequence[Any],
    variables: list[Variable],
    present: Mapping[str, Any],
  ) -> None:
    if self._grow_batches > 1 and present:
      near = self._schedule.precedes_update(
        self._step_number(),
        tf.convert_to_tensor(self._last_update),
        self._grow_batches - 1,
      )
      tf.cond(
        near & self._completes_step(),
        lambda: self._collect(present),
        lambda: None,
      )
    super()._step(grads, variables, present)

  def _collect(self, present: Mapping[str, Any]) -> None:
    """Adds the gradients of a step that comes shortly before an update."""
    kernels = [k for k in self._kernels if k.path in present]
    means = self._mean_gradients(kernels, present)
    for kernel, gradient in zip(kernels, means, strict=True):
      total = self._grow_sums[kernel.path]
      value = tf.convert_to_tensor(total)
      replicas.assign(total, value + tf.cast(gradient, value.dtype))
    replicas.assign(
      self._grow_count, tf.convert_to_tensor(self._grow_count) + 1
    )

  def _update(self, present: Mapping[str, Any], step: Tensor) -> None:
    super()._update(present, step)
    self._forget_gradients()

  def _forget_gradients(self) -> None:
    """Sets the sums of gradients to 0, if there are any."""
    if self._grow_batches == 1:
      return
    for total in self._grow_sums.values():
      replicas.assign(total, tf.zeros_like(tf.convert_to_tensor(total)))
    replicas.assign(self._grow_count, tf.zeros([], tf.int64))

  def _signals(
    self, kernels: Sequence[SparseKernel], present: Mapping[str, Any]
  ) -> list[Tensor | None]:
    gradients = self._mean_gradients(kernels, present)
    if self._grow_batches == 1:
      return list(gradients)
    number = tf.convert_to_tensor(self._grow_count) + 1
    totals = [
      tf.convert_to_tensor(self._grow_sums[kernel.path]) for kernel in kernels
    ]
    return [
      (total + tf.cast(gradient, total.dtype)) / tf.cast(number, total.dtype)
      for total, gradient in zip(totals, gradients, strict=True)
    ]

  def _signal_of_blocks(self, layer: BlockLayer) -> Tensor:
    return gradient_norms(layer)

  def _signal_of_rows(
    self,
    kernel: SparseKernel,
    compact: CompactLayer,
    positions: np.ndarray,
    sampled: np.ndarray,
  ) -> RowSignal:
    del kernel
    return self._dense_gradient(compact, positions, sampled)

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.abs(signal)
