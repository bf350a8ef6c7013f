"""End-to-end training of sparse neural networks in TensorFlow.

RigL (Evci et al., 2020, https://arxiv.org/abs/1911.11134), SET, SNFS, SNIP,
DNW, static masks and gradual pruning. See `rigl.sparse_optimizers` for the
methods and `rigl.mnist` for a first task.
"""

import importlib.util

from rigl.version import __version__

__all__ = ["__version__"]

if importlib.util.find_spec("tensorflow") is None:
  raise ImportError(
    "rigl needs TensorFlow, which is not installed: install tensorflow-cpu, "
    "tensorflow[and-cuda] or tensorflow-tpu (this package's extras cpu, gpu "
    "and tpu)."
  )
