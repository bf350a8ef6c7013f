"""Fixed masks: sparse training from scratch, and the dense baseline."""

from __future__ import annotations

import gin

from rigl.sparse_optimizers import base


@gin.configurable(module="rigl")
class SparseFixedMaskOptimizer(base.SparseOptimizer):
  """Trains with the masks it is given (`scratch`), or with none (`baseline`).

  The arguments are those of `SparseOptimizer`.
  """
