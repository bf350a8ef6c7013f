# SPDX-License-Identifier: Apache-2.0
"""Layers that store and compute only their active connections."""

from rigl import needs_tensorflow  # noqa: F401
from rigl.sparse.block_dense import BlockSparseDense
from rigl.sparse.dense import SparseDense

__all__ = ["BlockSparseDense", "SparseDense"]
