# SPDX-License-Identifier: Apache-2.0
"""Sparsities of layers, initial masks, and the cost of a sparse network.

Plain NumPy: layers are known by name and kernel shape.
"""

from rigl.sparse_utils.masks import (
  calculate_sparsity,
  get_mask_in_groups,
  get_mask_init_fn,
  get_mask_random,
)
from rigl.sparse_utils.sparsities import (
  DISTRIBUTIONS,
  get_n_zeros,
  get_sparsities,
)
from rigl.sparse_utils.stats import Stats, get_layer_counts, get_stats

__all__ = [
  "DISTRIBUTIONS",
  "Stats",
  "calculate_sparsity",
  "get_layer_counts",
  "get_mask_in_groups",
  "get_mask_init_fn",
  "get_mask_random",
  "get_n_zeros",
  "get_sparsities",
  "get_stats",
]
