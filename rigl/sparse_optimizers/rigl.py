# SPDX-License-Identifier: Apache-2.0
"""RigL: growth by the dense gradient of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from rigl.checks import check_number
from rigl.configurable import configurable
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers import blocks, graph_control
from rigl.sparse_optimizers import grow_init as inits
from rigl.sparse_optimizers.dense_rows import RowSignal, dense_gradient
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.sparse_optimizers.drop_grow_options import LAYER_FLOOR
from rigl.sparse_optimizers.grow_batches import (
  GradientSums,
  check_grow_batches,
)
from rigl.sparse_optimizers.published_arguments import warn_ignored
from rigl.sparse_optimizers.sparse_layer import (
  BlockLayer,
  CompactLayer,
  SparseLayer,
)
from rigl.types import GradsAndVars, Tensor, Variable


@configurable(
  unrecorded=[
    "use_tpu",
    "stateless_seed_offset",
    "noise_std",
    "weight_decay",
    "weight_decay_filter",
    "seed",
    "mask_engine",
    "structure",
    "track_exploration",
    "grow_batches",
    "soft_memory",
    "across_layers",
    "layer_floor",
    "drop_gradient_weight",
  ]
)
class SparseRigLOptimizer(DropGrowOptimizer):
  """RigL: grows connections by the magnitude of the dense gradient.

  An update replaces a gradient step: its batch gives the gradient only, and
  `global_step` does not advance. In every layer of n active connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many of largest |gradient| among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. A connection can be dropped and grown
  back at once; it then keeps its weight. Others start at `grow_init`.

  Evci et al., 2020, https://arxiv.org/abs/1911.11134, Algorithm 1.

  Args:
    grow_init: initial weights of grown connections: `zeros`; `initial_dist`,
      drawn from the initial weights of the layer; `random_normal`, with the
      standard deviation of the active weights; `random_uniform`, in plus or
      minus their mean magnitude; `grad_scale`, the gradient; or `grad_sign`,
      its sign. All but `zeros` may be followed by `_K` to divide by K > 0, such
      as `grad_scale_10`.
    initial_acc_scale: the slots of grown connections start at this times their
      gradient. It applies to every slot, as in the published code: leave it at
      0 where a slot must not be negative, as with Adam.
    use_tpu: ignored with a warning: replicas and shards sum their gradients by
      themselves.
    grow_batches: number n of batches whose dense gradients are averaged for
      the growth scores: those of the last n - 1 gradient steps before an
      update and that of the update, from 1 to `frequency`. Above 1 it keeps one
      dense gradient per layer, in checkpoints as well; steps outside of the
      last n - 1 cost nothing.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseRigLOptimizer(
    ...   inner, begin_step=0, end_step=25000, frequency=100, drop_fraction=0.3
    ... )
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.sparsify([kernel], "random", default_sparsity=0.5)
    {'layer1': 0.5}
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  update_is_iteration = True
  grow_inits = inits.WEIGHT_METHODS + inits.GRADIENT_METHODS

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    begin_step: int,
    end_step: int,
    frequency: int,
    drop_fraction: float = 0.1,
    drop_fraction_anneal: str = "constant",
    use_locking: bool = False,
    grow_init: str = "zeros",
    initial_acc_scale: float = 0.0,
    use_tpu: bool | None = None,
    name: str | None = None,
    stateless_seed_offset: int = 0,
    *,
    noise_std: float = 1e-5,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    grow_batches: int = 1,
    track_exploration: bool = False,
    soft_memory: bool = False,
    across_layers: bool = False,
    layer_floor: float = LAYER_FLOOR,
    drop_gradient_weight: float = 0.0,
  ) -> None:
    super().__init__(
      optimizer,
      begin_step,
      end_step,
      frequency,
      drop_fraction,
      drop_fraction_anneal,
      use_locking,
      grow_init,
      name,
      stateless_seed_offset=stateless_seed_offset,
      noise_std=noise_std,
      weight_decay=weight_decay,
      weight_decay_filter=weight_decay_filter,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
      track_exploration=track_exploration,
      soft_memory=soft_memory,
      across_layers=across_layers,
      layer_floor=layer_floor,
      drop_gradient_weight=drop_gradient_weight,
    )
    warn_ignored(use_tpu=use_tpu)
    check_number("initial_acc_scale", initial_acc_scale)
    self._initial_acc_scale = float(initial_acc_scale)
    check_grow_batches(grow_batches, frequency)
    self._sums: GradientSums | None = None
    if grow_batches > 1:
      self._sums = GradientSums(self._schedule, grow_batches, self._new_state)

  def _signal(
    self,
    layer: SparseLayer,
    gradients: list[tuple[Tensor, Variable]] | None,
  ) -> Tensor | None:
    gradient = self._gradient_of(gradients or [], layer)
    if self._sums is None:
      return gradient
    return self._sums.mean_with(gradient, layer)

  def apply_masked_gradients(
    self,
    grads_and_vars: GradsAndVars,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Makes a gradient step, and keeps its gradients if an update is near.

    Args:
      grads_and_vars: pairs of dense gradients of the loss and variables; in a
        replica context, unless `reduced`, each replica's own.
      global_step: int64 variable to advance. None: the optimizer's own.
      reduced: whether the gradients are summed over replicas already.

    Returns:
      In a graph, the operation that does it.
    """
    if self._sums is None or not self._layers:
      return super().apply_masked_gradients(
        grads_and_vars, global_step, reduced
      )
    self._notice_restored()
    step = self._step_variable(global_step)
    pairs = list(grads_and_vars)
    if not reduced:
      pairs = self.reduce_gradients(pairs)
    kept = self._sums.collect(pairs, step, self.last_update_step)
    with graph_control.after(*kept):
      return super().apply_masked_gradients(pairs, step, reduced=True)

  def _update(
    self, gradients: list[tuple[Tensor, Variable]] | None, step: Variable
  ) -> list[tf.Operation]:
    operations = super()._update(gradients, step)
    if self._sums is None:
      return operations
    with graph_control.after(*operations):
      return operations + self._sums.clear()

  def _create_state(self) -> None:
    super()._create_state()
    if self._sums is not None:
      self._sums.create_counter()

  def _check_compact(self, masks: Mapping[str, Tensor], in_graph: bool) -> None:
    super()._check_compact(masks, in_graph)
    self._check_one_batch("connections")

  def _check_one_batch(self, parts: str) -> None:
    if self._sums is not None:
      raise ValueError(
        "`grow_batches` must be 1 with layers that store only their active "
        f"{parts}, which keep what the gradient of one batch is made of."
      )

  def _prepare_layer(self, layer: SparseLayer) -> None:
    super()._prepare_layer(layer)
    if self._sums is not None:
      self._sums.add_layer(layer)
    for own in (layer.compact, layer.blocks):
      if own is not None:
        own.keep_batches()

  def _check_blocks(self, masks: Mapping[str, Tensor], in_graph: bool) -> None:
    super()._check_blocks(masks, in_graph)
    self._check_one_batch("blocks")
    if self._initial_acc_scale:
      raise ValueError(
        "`initial_acc_scale` must be 0 with layers that store only their "
        f"active blocks, got {self._initial_acc_scale:g}."
      )

  def _signal_of_blocks(self, layer: BlockLayer) -> Tensor:
    return blocks.gradient_norms(layer.take_batches(), self._sum_of_replicas())

  def _signal_of_rows(
    self,
    layer: SparseLayer,
    compact: CompactLayer,
    positions: np.ndarray,
    sampled: np.ndarray,
  ) -> RowSignal:
    del layer
    return dense_gradient(compact, positions, sampled)

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.abs(signal)

  def _reset_slot(
    self,
    slot: Tensor,
    start: Tensor | float,
    new: Tensor,
    mask: Tensor,
    signal: Tensor | None,
  ) -> Tensor:
    slot = super()._reset_slot(slot, start, new, mask, signal)
    if not self._initial_acc_scale or signal is None:
      return slot
    return tf.where(new, slot + signal * self._initial_acc_scale, slot)
