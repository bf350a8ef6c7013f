"""DNW: discovering neural wirings, the top magnitudes after every step.

The one method whose inactive weights live on.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rigl import mask_ops
from rigl.configurable import configurable
from rigl.sparse_optimizers import (
  base,
  graph_control,
  sparse_layer,
  target_sparsity,
)
from rigl.types import Tensor, Variable


@configurable()
class SparseDNWOptimizer(target_sparsity.TargetSparsityOptimizer):
  """DNW (Wortsman et al., 2019, https://arxiv.org/abs/1906.00586).

  Every weight, active or not, gets the dense gradient; after every step the
  active connections of a layer are those of the largest |weight|. The dense
  weights are kept beside the kernel, which is their product with the mask.
  As in the published code, sparse kernels have no weight decay. The arguments
  are those of `TargetSparsityOptimizer`.
  """

  def __init__(self, *args: Any, **options: Any) -> None:
    super().__init__(*args, **options)
    self._dense: dict[str, Variable] = {}

  def dense_weights(self, layer: sparse_layer.SparseLayer) -> Variable:
    """The weights of a layer with those of inactive connections."""
    return self._dense[layer.name]

  def _prepare_layer(self, layer: sparse_layer.SparseLayer) -> None:
    self._dense[layer.name] = self._new_state(
      layer.kernel.read_value(), f"{layer.kernel_name}/dense"
    )

  def apply_masked_gradients(
    self,
    grads_and_vars: base.GradsAndVars,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Steps the dense weights, then sets mask and kernel by their magnitude.

    See the base class.
    """
    self._check_created()
    pairs = list(grads_and_vars)
    if not reduced:
      pairs = self.reduce_gradients(pairs)
    step = self.global_step if global_step is None else global_step
    restored = [
      layer.kernel.assign(self._dense[layer.name]) for layer in self.layers
    ]
    with graph_control.after(*restored):
      stepped = self._inner_step(
        [
          (g if id(v) in self._layer_of else self._decayed(g, v), v)
          for g, v in pairs
        ],
        step,
      )
    with graph_control.after(stepped):
      return graph_control.group(self._select())

  def _select(self) -> list[Any]:
    operations = []
    for layer in self.layers:
      weights = layer.kernel.read_value()
      flat = tf.reshape(weights, [-1])
      mask = self._compiled_mask(flat, self._num_ones(layer))
      mask = tf.reshape(mask, weights.shape)
      kept = self._dense[layer.name].assign(weights)
      with graph_control.after(kept):
        zero = tf.zeros([], weights.dtype)
        kernel = layer.kernel.assign(tf.where(mask, weights, zero))
        operations += [kernel, layer.mask.assign(mask)]
    return operations

  def _mask_flat(self, weights: Tensor, num_ones: Tensor) -> Tensor:
    return mask_ops.top_k_mask(tf.abs(weights), num_ones)
