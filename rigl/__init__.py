# SPDX-License-Identifier: Apache-2.0
"""Sparse training of neural networks in TensorFlow.

A sparse optimizer wraps an ordinary one. It keeps a fixed number of connections
active in each kernel and moves them while the network trains:

>>> import rigl
>>> import tensorflow as tf
>>> kernel = tf.Variable(tf.random.normal([64, 32]), name="hidden/kernel")
>>> inner = tf.compat.v1.train.MomentumOptimizer(0.05, 0.9)
>>> optimizer = rigl.SparseRigLOptimizer(
...   inner, begin_step=0, end_step=750, frequency=50, drop_fraction=0.3
... )
>>> optimizer.sparsify([kernel], "erdos_renyi_kernel", default_sparsity=0.9)
{'hidden': 0.8999...}
>>> for _ in range(100):
...   x = tf.random.normal([128, 64])
...   with tf.GradientTape() as tape:
...     loss = tf.reduce_mean((x @ kernel - x[:, :32]) ** 2)
...   _ = optimizer.apply_gradients([(tape.gradient(loss, kernel), kernel)])
>>> int(tf.math.count_nonzero(kernel))  # 10 % of 64 x 32, rounded up.
205

Counting its cost needs no TensorFlow:

>>> layers = [rigl.LayerSpec("hidden", "dense", (64, 32))]
>>> rigl.get_stats(layers, 0.9, "random").total_flops
442

Optimizers, one per training method:
  SparseRigLOptimizer       RigL: grows by the gradient of one batch
  SparseSETOptimizer        SET: grows at random
  SparseMomentumOptimizer   SNFS: grows by the average gradient
  SparseStaticOptimizer     re-initialises weights under fixed masks
  SparseFixedMaskOptimizer  keeps its masks; dense without any
  SparseSnipOptimizer       SNIP: prunes once, before training
  SparseDNWOptimizer        DNW: keeps the largest weights after every step
  SparsePruningOptimizer    gradual magnitude pruning
  SparseGraNetOptimizer     GraNet: prunes gradually, regrows by the gradient
  SparseTopKASTOptimizer    Top-KAST: the largest weights, trains some more
  SparseOptimizer, DropGrowOptimizer  base classes for methods of your own

Sparsities and masks:
  get_sparsities      distributes an overall sparsity over layers
  get_mask_init_fn    prepares random masks of these sparsities
  get_mask_random     makes one random mask
  get_n_zeros         number of zeros in a mask of a given sparsity
  calculate_sparsity  share of zeros over several masks

Schedules:
  UpdateSchedule      when masks change, and how many connections
  PruningSchedule     the sparsity of gradual pruning at each step
  PiecewiseConstant   a learning rate that changes at given steps

Counting:
  LayerSpec           one layer: kind, kernel shape, image size
  find_layers         the layers of a Keras, TensorFlow or own model
  get_stats, Stats    FLOPs, bits and sparsity of a network

Files:
  export              writes a trained network: SavedModel, LiteRT, compact file
  compress            a Keras model without its dead channels and neurons

Modules: compression, counting, exporting, mask_ops, schedules,
sparse_optimizers, sparse_utils; and keras, which wraps optimizers of Keras 3
for models of any kind: rigl.keras.RigL, SET, SNFS, Static, SNIP, DNW,
GradualPruning, FixedMask, GraNet, TopKAST; and sparse, whose layers store and
compute only their active connections.

Commands: rigl-mnist, rigl-cifar10, rigl-imagenet, rigl-predict, rigl-export,
rigl-flops.

Everything is loaded when it is first used. Optimizers and `mask_ops` need
TensorFlow, which the extras cpu, gpu and tpu install: pip install 'rigl[cpu]'.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from rigl.version import __version__

if TYPE_CHECKING:
  from rigl import (
    compression,
    counting,
    exporting,
    keras,  # noqa: F401
    mask_ops,
    schedules,
    sparse,
    sparse_optimizers,
    sparse_utils,
  )
  from rigl.compression import compress
  from rigl.counting import LayerSpec, find_layers
  from rigl.exporting import export
  from rigl.schedules import (
    PiecewiseConstant,
    PruningSchedule,
    UpdateSchedule,
  )
  from rigl.sparse_optimizers import (
    DropGrowOptimizer,
    SparseDNWOptimizer,
    SparseFixedMaskOptimizer,
    SparseGraNetOptimizer,
    SparseMomentumOptimizer,
    SparseOptimizer,
    SparsePruningOptimizer,
    SparseRigLOptimizer,
    SparseSETOptimizer,
    SparseSnipOptimizer,
    SparseStaticOptimizer,
    SparseTopKASTOptimizer,
  )
  from rigl.sparse_utils import (
    Stats,
    calculate_sparsity,
    get_mask_init_fn,
    get_mask_random,
    get_n_zeros,
    get_sparsities,
    get_stats,
  )

__all__ = [
  "DropGrowOptimizer",
  "LayerSpec",
  "PiecewiseConstant",
  "PruningSchedule",
  "SparseDNWOptimizer",
  "SparseFixedMaskOptimizer",
  "SparseGraNetOptimizer",
  "SparseMomentumOptimizer",
  "SparseOptimizer",
  "SparsePruningOptimizer",
  "SparseRigLOptimizer",
  "SparseSETOptimizer",
  "SparseSnipOptimizer",
  "SparseStaticOptimizer",
  "SparseTopKASTOptimizer",
  "Stats",
  "UpdateSchedule",
  "__version__",
  "calculate_sparsity",
  "compress",
  "compression",
  "counting",
  "export",
  "exporting",
  "find_layers",
  "get_mask_init_fn",
  "get_mask_random",
  "get_n_zeros",
  "get_sparsities",
  "get_stats",
  "mask_ops",
  "schedules",
  "sparse",
  "sparse_optimizers",
  "sparse_utils",
]

# What each module exports here.
_EXPORTS = {
  "compression": ("compress",),
  "counting": ("LayerSpec", "find_layers"),
  "exporting": ("export",),
  "keras": (),
  "mask_ops": (),
  "schedules": ("PiecewiseConstant", "PruningSchedule", "UpdateSchedule"),
  "sparse_optimizers": (
    "DropGrowOptimizer",
    "SparseDNWOptimizer",
    "SparseFixedMaskOptimizer",
    "SparseGraNetOptimizer",
    "SparseMomentumOptimizer",
    "SparseOptimizer",
    "SparsePruningOptimizer",
    "SparseRigLOptimizer",
    "SparseSETOptimizer",
    "SparseSnipOptimizer",
    "SparseStaticOptimizer",
    "SparseTopKASTOptimizer",
  ),
  "sparse": (),
  "sparse_utils": (
    "Stats",
    "calculate_sparsity",
    "get_mask_init_fn",
    "get_mask_random",
    "get_n_zeros",
    "get_sparsities",
    "get_stats",
  ),
}
_MODULE_OF = {
  name: module
  for module, names in _EXPORTS.items()
  for name in (module, *names)
}
_NEEDING_TENSORFLOW = (
  "exporting",
  "keras",
  "mask_ops",
  "sparse",
  "sparse_optimizers",
)


if not TYPE_CHECKING:  # A type checker would accept any attribute.

  def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
      raise AttributeError(f"module 'rigl' has no attribute {name!r}")
    home = _MODULE_OF[name]
    if home in _NEEDING_TENSORFLOW:
      importlib.import_module("rigl.needs_tensorflow")
    module = importlib.import_module(f"rigl.{home}")
    value = module if name == home else getattr(module, name)
    globals()[name] = value  # The next access does not come here.
    return value


def __dir__() -> list[str]:
  """All names; without TensorFlow, those that do not need it.

  `help` reads every name, and would otherwise fail without TensorFlow. `keras`
  is not among them, because it needs Keras 3 as well.
  """
  names = {*globals(), *__all__}
  if importlib.util.find_spec("tensorflow") is None:
    names -= {
      n for n, home in _MODULE_OF.items() if home in _NEEDING_TENSORFLOW
    }
  return sorted(names)
