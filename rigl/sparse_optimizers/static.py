# SPDX-License-Identifier: Apache-2.0
"""Static masks whose smallest weights are re-initialised."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from rigl import mask_ops
from rigl.configurable import configurable
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.types import Tensor, Variable


@configurable(unrecorded=["stateless_seed_offset", "mask_engine", "structure"])
class SparseStaticOptimizer(DropGrowOptimizer):
  """Static sparse training: keeps the masks, re-initialises small weights.

  After the gradient step of an update, in every layer of n active connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = the same connections
      weight  = grow_init of the grown ones, with fresh slots.

  It is the control experiment of dynamic sparse training in Evci et al., 2020,
  https://arxiv.org/abs/1911.11134, section 4.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseStaticOptimizer(
    ...   inner, begin_step=0, end_step=25000, frequency=100, drop_fraction=0.3
    ... )
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.sparsify([kernel], "random", default_sparsity=0.5)
    {'layer1': 0.5}
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

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

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.cast(mask, tf.float32)

  def _new(self, result: mask_ops.DropGrow, old_mask: Tensor) -> Tensor:
    return result.grown
