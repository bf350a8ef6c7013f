"""Static masks whose smallest weights are re-initialised."""

from __future__ import annotations

import tensorflow as tf

from rigl import mask_ops
from rigl.configurable import configurable
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.types import Tensor


@configurable()
class SparseStaticOptimizer(DropGrowOptimizer):
  """Keeps the masks and re-initialises the smallest weights by the schedule.

  The control experiment of dynamic sparse training: what is dropped grows
  back in place. The arguments are those of `DropGrowOptimizer`.
  """

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.cast(mask, tf.float32)

  def _new(self, result: mask_ops.DropGrow, old_mask: Tensor) -> Tensor:
    return result.grown
