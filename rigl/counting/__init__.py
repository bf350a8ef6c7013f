# SPDX-License-Identifier: Apache-2.0
"""Counts of operations and bytes of sparse networks, in plain Python.

`LayerSpec` describes a layer, `find_layers` finds the layers of a model,
`architectures` lists the layers of the published networks, and `training_flops`
counts the cost of training. `rigl.sparse_utils.get_stats` distributes a
sparsity over layers and counts.
"""

from rigl.counting.costs import Count, total
from rigl.counting.iso_flops import UnreachableError, iso_flops_width
from rigl.counting.module_layers import find_layers
from rigl.counting.rules import (
  LayerCount,
  count_layer,
  count_layer_as_published,
  count_layers,
  scale_widths,
)
from rigl.counting.specs import (
  ELEMENTWISE_KINDS,
  KNOWN_KINDS,
  LayerSpec,
  by_layer,
  layer_name,
)
from rigl.counting.summary import (
  align,
  real_sparsity,
  rows,
  short_names,
  summary,
  total_count,
  total_row,
)

__all__ = [
  "ELEMENTWISE_KINDS",
  "KNOWN_KINDS",
  "Count",
  "LayerCount",
  "LayerSpec",
  "UnreachableError",
  "align",
  "by_layer",
  "count_layer",
  "count_layer_as_published",
  "count_layers",
  "find_layers",
  "iso_flops_width",
  "layer_name",
  "real_sparsity",
  "rows",
  "scale_widths",
  "short_names",
  "summary",
  "total",
  "total_count",
  "total_row",
]
