# SPDX-License-Identifier: Apache-2.0
"""DNW: discovering neural wirings, the largest weights after every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from rigl.configurable import configurable
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.dense_weights import DenseWeightsOptimizer
from rigl.sparse_optimizers.published_arguments import warn_ignored
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.types import GradsAndVars, Tensor, Variable


@configurable(
  unrecorded=[
    "custom_sparsity_map",
    "use_tpu",
    "use_locking",
    "name",
    "erk_power_scale",
    "weight_decay",
    "weight_decay_filter",
    "seed",
    "mask_engine",
    "structure",
  ]
)
class SparseDNWOptimizer(DenseWeightsOptimizer):
  """DNW (discovering neural wirings): the largest weights after every step.

  Every weight, active or not, gets the dense gradient. Each step is, in every
  layer,

      dense  = step(dense, gradient)
      mask   = the n_ones connections of largest |dense|
      kernel = mask * dense,

  where step is that of the wrapped optimizer and n_ones what the distribution
  of `default_sparsity` gives the layer. Inactive weights and their slots live
  on: the weights are kept in a variable beside the kernel. As in the published
  code, sparse kernels have no weight decay; `regularization_loss` counts the
  weights of these kernels all the same.

  Wortsman et al., 2019, https://arxiv.org/abs/1906.00586, Algorithm 1.

  Create the masks with `create_masks(kernels)`: all connections are active.

  Args:
    use_tpu: ignored with a warning: replicas and shards sum their gradients by
      themselves.

  Raises:
    ValueError: if an argument is not as described; `create_masks` raises it
      where the sparsity cannot be distributed over the layers.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseDNWOptimizer(inner, 0.5, "random")
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.create_masks([kernel])
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    default_sparsity: float,
    mask_init_method: str,
    custom_sparsity_map: Mapping[str, float] | None = None,
    use_tpu: bool | None = None,
    use_locking: bool = False,
    name: str | None = None,
    *,
    erk_power_scale: float = 1.0,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
  ) -> None:
    super().__init__(
      optimizer,
      default_sparsity,
      mask_init_method,
      custom_sparsity_map,
      use_locking,
      name,
      erk_power_scale=erk_power_scale,
      weight_decay=weight_decay,
      weight_decay_filter=weight_decay_filter,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
    )
    warn_ignored(use_tpu=use_tpu)

  def step_gradients(
    self, grads_and_vars: GradsAndVars
  ) -> list[tuple[Tensor, Variable]]:
    """The gradients of a step: those of sparse kernels are as they come.

    Args:
      grads_and_vars: pairs of dense gradients of the loss, summed over
        replicas, and variables.
    """
    return [
      (g if id(v) in self._layer_of else self._decayed(g, v), v)
      for g, v in grads_and_vars
    ]

  def _after_step(self, layers: Sequence[SparseLayer]) -> list[tf.Operation]:
    """Sets the masks and kernels of layers by their dense weights."""
    weights = [layer.kernel.read_value() for layer in layers]
    inputs = [
      dict(
        weights=tf.reshape(each, [-1]),
        num_ones=self._num_ones(layer),
        groups=layer.groups,
      )
      for layer, each in zip(layers, weights, strict=True)
    ]
    masks = self._engine.map(self._largest, inputs)
    operations = []
    for layer, each, flat in zip(layers, weights, masks, strict=True):
      mask = tf.reshape(flat, each.shape)
      kept = self._dense[layer.name].assign(each)
      zero = tf.zeros([], each.dtype)
      with graph_control.after(kept):
        kernel = layer.kernel.assign(tf.where(mask, each, zero))
        operations += [kernel, layer.mask.assign(mask)]
    return operations

  def _largest(self, layers: list[dict[str, Any]]) -> list[Tensor]:
    return self._engine.top_k(
      [tf.abs(each["weights"]) for each in layers],
      [each["num_ones"] for each in layers],
      groups=[each["groups"] for each in layers],
    )
