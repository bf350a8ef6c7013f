"""Fixed masks: sparse training from scratch, and the dense baseline."""

from __future__ import annotations

from rigl.configurable import configurable
from rigl.sparse_optimizers import base


@configurable()
class SparseFixedMaskOptimizer(base.SparseOptimizer):
  """Trains with the masks it is given (`scratch`), or with none (`baseline`).

  The arguments are those of `SparseOptimizer`.
  """
