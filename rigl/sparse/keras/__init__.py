# SPDX-License-Identifier: Apache-2.0
"""Keras layers that store and compute only their active connections.

The optimizers of `rigl.keras` train them. `convert` makes a model of such
layers from an ordinary one, `to_dense` an ordinary one from such a model.
"""

from rigl import needs_tensorflow  # noqa: F401, I001
from rigl.keras import needs_keras  # noqa: F401
from rigl.sparse.keras.block_layer import BlockSparseDense
from rigl.sparse.keras.conversion import convert, to_dense
from rigl.sparse.keras.layer import SparseDense

__all__ = ["BlockSparseDense", "SparseDense", "convert", "to_dense"]
