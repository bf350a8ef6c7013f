# SPDX-License-Identifier: Apache-2.0
"""Sparse optimizers: wrappers of `tf.compat.v1.train` optimizers.

One class per training method; all have the interface of `SparseOptimizer`.
"""

from rigl import needs_tensorflow  # noqa: F401
from rigl.sparse_optimizers.base import SparseOptimizer
from rigl.sparse_optimizers.dnw import SparseDNWOptimizer
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.sparse_optimizers.fixed_mask import SparseFixedMaskOptimizer
from rigl.sparse_optimizers.granet import SparseGraNetOptimizer
from rigl.sparse_optimizers.pruning import SparsePruningOptimizer
from rigl.sparse_optimizers.rigl import SparseRigLOptimizer
from rigl.sparse_optimizers.set import SparseSETOptimizer
from rigl.sparse_optimizers.snfs import SparseMomentumOptimizer
from rigl.sparse_optimizers.snip import SparseSnipOptimizer
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.sparse_optimizers.static import SparseStaticOptimizer
from rigl.sparse_optimizers.top_kast import SparseTopKASTOptimizer

__all__ = [
  "DropGrowOptimizer",
  "SparseDNWOptimizer",
  "SparseFixedMaskOptimizer",
  "SparseGraNetOptimizer",
  "SparseLayer",
  "SparseMomentumOptimizer",
  "SparseOptimizer",
  "SparsePruningOptimizer",
  "SparseRigLOptimizer",
  "SparseSETOptimizer",
  "SparseSnipOptimizer",
  "SparseStaticOptimizer",
  "SparseTopKASTOptimizer",
]
