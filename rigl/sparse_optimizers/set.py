"""SET: random growth."""

from __future__ import annotations

from rigl.configurable import configurable
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.types import Tensor


@configurable()
class SparseSETOptimizer(DropGrowOptimizer):
  """Sparse Evolutionary Training: grows at random, after a gradient step.

  Mocanu et al., 2018, https://arxiv.org/abs/1707.04780. The arguments are
  those of `DropGrowOptimizer`.
  """

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return self._random_uniform(mask.shape[0], key)
