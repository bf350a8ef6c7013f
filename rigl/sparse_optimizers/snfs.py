# SPDX-License-Identifier: Apache-2.0
"""SNFS: growth by the momentum of the dense gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rigl.checks import check_number
from rigl.configurable import configurable
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.dense_rows import (
  RowSignal,
  dense_gradient,
  rows_of,
  update_average,
)
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.sparse_optimizers.published_arguments import warn_ignored
from rigl.sparse_optimizers.sparse_layer import CompactLayer, SparseLayer
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
  ]
)
class SparseMomentumOptimizer(DropGrowOptimizer):
  """SNFS: grows connections by the moving average of the dense gradient.

  Every gradient step first updates the average, which starts at 0 and is not
  debiased:

      average = momentum * average + (1 - momentum) * gradient.

  After the gradient step of an update, in every layer of n active connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many of largest |average| among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. A connection can be dropped and grown
  back at once; it then keeps its weight. Others start at `grow_init`.

  Dettmers & Zettlemoyer, 2019, https://arxiv.org/abs/1907.04840, section 3, as
  in the code of Evci et al.: sparsity is not redistributed between layers.

  The average has the size of the whole kernel, also for layers that store only
  their active connections (`rigl.sparse`). They form their dense gradient in
  every step then, for a block of rows at a time, which costs as much as a dense
  product; RigL needs neither.

  Args:
    momentum: decay of the moving average, in [0, 1].
    use_tpu: ignored with a warning: replicas and shards sum their gradients by
      themselves.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseMomentumOptimizer(
    ...   inner, begin_step=0, end_step=25000, frequency=100, drop_fraction=0.3
    ... )
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.sparsify([kernel], "random", default_sparsity=0.5)
    {'layer1': 0.5}
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  takes_block_layers = False

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
    momentum: float = 0.9,
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
    track_exploration: bool = False,
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
    )
    warn_ignored(use_tpu=use_tpu)
    check_number("momentum", momentum, 0, 1)
    self._ema_decay = momentum
    self._averages: dict[str, Variable] = {}

  def _prepare_layer(self, layer: SparseLayer) -> None:
    super()._prepare_layer(layer)
    if layer.compact is not None:
      layer.compact.keep_batches()
    self._averages[layer.name] = self._new_state(
      tf.zeros(layer.shape, layer.kernel.dtype),
      f"{layer.kernel_name}/ExponentialMovingAverage",
    )

  def apply_masked_gradients(
    self,
    grads_and_vars: GradsAndVars,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Updates the averages, then makes a masked gradient step.

    Args:
      grads_and_vars: pairs of dense gradients of the loss and variables; in a
        replica context, unless `reduced`, each replica's own.
      global_step: int64 variable to advance. None: the optimizer's own.
      reduced: whether the gradients are summed over replicas already.

    Returns:
      In a graph, the operation that does it.
    """
    self._notice_restored()
    pairs = list(grads_and_vars)
    if not reduced:
      pairs = self.reduce_gradients(pairs)
    averaged: list[tf.Operation] = []
    for gradient, variable in pairs:
      layer = self._layer_of.get(id(variable))
      if layer is None:
        continue
      if layer.compact is not None:
        averaged += self._average_rows(layer, layer.compact, gradient)
        continue
      average = self._averages[layer.name]
      decay = tf.constant(1.0 - self._ema_decay, gradient.dtype)
      change = decay * (gradient - average)
      averaged.append(average.assign(average + change))
    with graph_control.after(*averaged):
      return super().apply_masked_gradients(pairs, global_step, reduced=True)

  def _average_rows(
    self, layer: SparseLayer, compact: CompactLayer, gradient: Tensor
  ) -> list[tf.Operation]:
    """Updates the average of a layer that stores only active connections."""
    average = self._averages[layer.name]

    def update(positions: Tensor, sampled: Tensor) -> None:
      signal = dense_gradient(compact, positions.numpy(), sampled.numpy())
      update_average(average, 1.0 - self._ema_decay, signal)

    inputs = [compact.positions.read_value(), gradient]
    if tf.executing_eagerly():
      update(*inputs)
      return []
    return [tf.py_function(update, inputs, [])]

  def _signal(
    self,
    layer: SparseLayer,
    gradients: list[tuple[Tensor, Variable]] | None,
  ) -> Tensor | None:
    return None if layer.compact else self._averages[layer.name]

  def _signal_of_rows(
    self,
    layer: SparseLayer,
    compact: CompactLayer,
    positions: np.ndarray,
    sampled: np.ndarray,
  ) -> RowSignal:
    del compact, positions, sampled
    return rows_of(self._averages[layer.name])

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.abs(signal)
