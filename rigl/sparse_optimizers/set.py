# SPDX-License-Identifier: Apache-2.0
"""SET: sparse evolutionary training, random growth."""

from __future__ import annotations

from rigl.configurable import configurable
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.types import Tensor, Variable


@configurable(
  unrecorded=[
    "use_stateless",
    "stateless_seed_offset",
    "mask_engine",
    "structure",
    "track_exploration",
    "soft_memory",
    "across_layers",
    "layer_floor",
    "drop_gradient_weight",
  ]
)
class SparseSETOptimizer(DropGrowOptimizer):
  """SET (sparse evolutionary training): grows connections at random.

  After the gradient step of an update, in every layer of n active connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many, uniformly at random among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. A connection can be dropped and grown
  back at once; it then keeps its weight. Others start at `grow_init`.

  Mocanu et al., 2018, https://arxiv.org/abs/1707.04780, Algorithm 2.

  Args:
    drop_gradient_weight: at least 0; this times |gradient| is added to
      |weight + noise| when dropping (Yuan et al., 2021).
      Above 0 an update takes the place of a gradient step, as in RigL, because
      its batch gives the gradient.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseSETOptimizer(
    ...   inner, begin_step=0, end_step=25000, frequency=100, drop_fraction=0.3
    ... )
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.sparsify([kernel], "random", default_sparsity=0.5)
    {'layer1': 0.5}
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  def _signal(
    self,
    layer: SparseLayer,
    gradients: list[tuple[Tensor, Variable]] | None,
  ) -> Tensor | None:
    return self._gradient_of(gradients, layer) if gradients else None

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return self._random_uniform(mask.shape[0], key)
