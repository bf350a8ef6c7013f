# SPDX-License-Identifier: Apache-2.0
"""Layers that store and compute only their active connections.

`SparseDense` and `BlockSparseDense` are `tf.Module`s. The layers of these names
in `keras`, `convert` and `to_dense` are for models of Keras 3, which is loaded
when one of them is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rigl import needs_tensorflow  # noqa: F401
from rigl.sparse.block_dense import BlockSparseDense
from rigl.sparse.dense import SparseDense

if TYPE_CHECKING:
  from rigl.sparse import keras  # noqa: F401
  from rigl.sparse.keras.conversion import convert, to_dense  # noqa: F401

# What is lazy would load Keras.
__all__ = ["BlockSparseDense", "SparseDense"]

_OF_KERAS = ("convert", "to_dense")


def __getattr__(name: str) -> Any:
  if name == "keras":
    return importlib.import_module("rigl.sparse.keras")
  if name in _OF_KERAS:
    return getattr(importlib.import_module("rigl.sparse.keras"), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
