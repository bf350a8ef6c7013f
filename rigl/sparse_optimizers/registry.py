"""Registry: the optimizer class of every training method, by its name.

A new method needs one line here; scripts offer it under that name.
"""

from __future__ import annotations

import inspect

from rigl.sparse_optimizers.base import SparseOptimizer
from rigl.sparse_optimizers.dnw import SparseDNWOptimizer
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.sparse_optimizers.fixed_mask import SparseFixedMaskOptimizer
from rigl.sparse_optimizers.pruning import SparsePruningOptimizer
from rigl.sparse_optimizers.rigl import SparseRigLOptimizer
from rigl.sparse_optimizers.set import SparseSETOptimizer
from rigl.sparse_optimizers.snfs import SparseMomentumOptimizer
from rigl.sparse_optimizers.snip import SparseSnipOptimizer
from rigl.sparse_optimizers.static import SparseStaticOptimizer

BASELINE = "baseline"
SCRATCH = "scratch"
PRUNE = "prune"

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
}
# Methods that drop and grow connections by a schedule.
DROP_GROW = tuple(
  name
  for name, optimizer in METHODS.items()
  if issubclass(optimizer, DropGrowOptimizer)
)
# Methods that start with random masks. The others start dense.
SPARSE_START = (SCRATCH, *DROP_GROW)


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
  """The names of the arguments that an optimizer class takes.

  Args:
    optimizer: the class. Its `*args` stand for the positional arguments of its
      base class and its `**kwargs` for the keyword-only ones.
  """
  names: set[str] = set()
  positional = keyword_only = True  # What the class passes on to this base.
  for base in inspect.getmro(optimizer):
    if "__init__" not in vars(base):
      continue
    parameters = inspect.signature(vars(base)["__init__"]).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    for parameter in parameters.values():
      if parameter.kind is parameter.KEYWORD_ONLY:
        names |= {parameter.name} if keyword_only else set()
      elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and positional:
        names.add(parameter.name)
    positional = positional and inspect.Parameter.VAR_POSITIONAL in kinds
    keyword_only = keyword_only and inspect.Parameter.VAR_KEYWORD in kinds
    if not (positional or keyword_only):
      break
  return frozenset(names - {"self"})
