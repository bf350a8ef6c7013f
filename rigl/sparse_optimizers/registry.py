# SPDX-License-Identifier: Apache-2.0
"""Registry: the optimizer class of every training method, by its name.

A new method needs one line here; scripts offer it under that name.
"""

from __future__ import annotations

import inspect

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
from rigl.sparse_optimizers.static import SparseStaticOptimizer
from rigl.sparse_optimizers.top_kast import SparseTopKASTOptimizer

BASELINE = "baseline"
SCRATCH = "scratch"
PRUNE = "prune"
TOP_KAST = "top_kast"

METHODS: dict[str, type[SparseOptimizer]] = {
  BASELINE: SparseFixedMaskOptimizer,
  SCRATCH: SparseFixedMaskOptimizer,
  PRUNE: SparsePruningOptimizer,
  "snip": SparseSnipOptimizer,
  "dnw": SparseDNWOptimizer,
  "set": SparseSETOptimizer,
  "static": SparseStaticOptimizer,
  "momentum": SparseMomentumOptimizer,
  "rigl": SparseRigLOptimizer,
  "granet": SparseGraNetOptimizer,
  TOP_KAST: SparseTopKASTOptimizer,
}
# Methods that drop and grow connections by a schedule.
DROP_GROW = tuple(
  name
  for name, optimizer in METHODS.items()
  if issubclass(optimizer, DropGrowOptimizer)
)
# Methods with a window of mask updates and explored connections.
BY_WINDOW = (*DROP_GROW, TOP_KAST)
# Methods that start with random masks of their final sparsity, or are given
# masks. The others start dense, or make their masks themselves.
SPARSE_START = (
  SCRATCH,
  *(name for name in DROP_GROW if not METHODS[name].starts_dense),
)


def optimizer_class(method: str) -> type[SparseOptimizer]:
  """The optimizer class of a training method.

  Args:
    method: a name in `METHODS`.

  Raises:
    ValueError: if there is no such method.
  """
  if method not in METHODS:
    raise ValueError(
      f"`training_method` must be one of {sorted(METHODS)}, got {method!r}."
    )
  return METHODS[method]


def argument_names(optimizer: type[SparseOptimizer]) -> frozenset[str]:
  """Returns the names of the arguments that an optimizer class takes."""
  return frozenset(inspect.signature(optimizer).parameters)
