# SPDX-License-Identifier: Apache-2.0
"""Sparse training of any Keras 3 model: wrappers of Keras optimizers.

>>> optimizer = RigL(keras.optimizers.SGD(0.1, momentum=0.9), sparsity=0.9)
>>> model.compile(optimizer, "sparse_categorical_crossentropy")
>>> model.fit(x, y)

Nothing in the model changes. One class per method; `sparsify` makes one of
them for a model in one call.
"""

from rigl import needs_tensorflow  # noqa: F401, I001
from rigl.keras import needs_keras  # noqa: F401
from rigl.keras import networks
from rigl.keras.base import SparseOptimizer
from rigl.keras.checkpoints import load_checkpoint, save_checkpoint
from rigl.keras.compact_files import load_compact
from rigl.keras.dnw import DNW
from rigl.keras.fixed_mask import FixedMask
from rigl.keras.granet import GraNet
from rigl.keras.pruning import GradualPruning
from rigl.keras.rigl import RigL
from rigl.keras.set import SET
from rigl.keras.snfs import SNFS
from rigl.keras.snip import SNIP
from rigl.keras.sparsify import METHODS, sparsify
from rigl.keras.sparsity_table import get_stats, summarize_sparsity
from rigl.keras.static import Static
from rigl.keras.strip import strip
from rigl.keras.summaries import SparsitySummaries
from rigl.keras.top_kast import TopKAST

__all__ = [
  "DNW",
  "METHODS",
  "SET",
  "SNFS",
  "SNIP",
  "FixedMask",
  "GraNet",
  "GradualPruning",
  "RigL",
  "SparseOptimizer",
  "SparsitySummaries",
  "Static",
  "TopKAST",
  "get_stats",
  "load_checkpoint",
  "load_compact",
  "networks",
  "save_checkpoint",
  "sparsify",
  "strip",
  "summarize_sparsity",
]
