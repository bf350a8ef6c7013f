# SPDX-License-Identifier: Apache-2.0
"""Mask arithmetic: exact top-k masks, drop and grow, random numbers.

Tensors in, tensors out: no variable, layer name, schedule or flag is known
here. `MaskEngine` works on the layers of a network in one of three ways that
give the same masks bit for bit; `top_k_mask` and `drop_and_grow` are the same
for one layer. The number of ones is always exact.
"""

from rigl import needs_tensorflow  # noqa: F401
from rigl.mask_ops.block_grid import (
  BlockIndex,
  grid_of,
  index_of,
  numbers_of,
  places_of_ones,
)
from rigl.mask_ops.block_growth import grow_blocks
from rigl.mask_ops.engine import ENGINES, EngineName, MaskEngine
from rigl.mask_ops.keys import LOWEST_KEY, count_ones, order_keys
from rigl.mask_ops.one_layer import drop_and_grow, random_mask, top_k_mask
from rigl.mask_ops.random import (
  approximate_normal,
  hash_key,
  random_bits,
  random_uniform,
)
from rigl.mask_ops.selection import DropGrow, keep_and_drop_counts

__all__ = [
  "BlockIndex",
  "ENGINES",
  "DropGrow",
  "EngineName",
  "LOWEST_KEY",
  "MaskEngine",
  "approximate_normal",
  "count_ones",
  "drop_and_grow",
  "grid_of",
  "grow_blocks",
  "hash_key",
  "index_of",
  "keep_and_drop_counts",
  "numbers_of",
  "order_keys",
  "places_of_ones",
  "random_bits",
  "random_mask",
  "random_uniform",
  "top_k_mask",
]
