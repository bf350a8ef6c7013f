# SPDX-License-Identifier: Apache-2.0
"""One call that makes the training of a model sparse."""

from __future__ import annotations

from typing import Any

import keras

from rigl.keras.base import SparseOptimizer
from rigl.keras.dnw import DNW
from rigl.keras.fixed_mask import FixedMask
from rigl.keras.granet import GraNet
from rigl.keras.pruning import GradualPruning
from rigl.keras.rigl import RigL
from rigl.keras.set import SET
from rigl.keras.snfs import SNFS
from rigl.keras.snip import SNIP
from rigl.keras.static import Static
from rigl.keras.top_kast import TopKAST

METHODS: dict[str, type[SparseOptimizer]] = {
  "dnw": DNW,
  "fixed_mask": FixedMask,
  "granet": GraNet,
  "pruning": GradualPruning,
  "rigl": RigL,
  "set": SET,
  "snfs": SNFS,
  "snip": SNIP,
  "static": Static,
  "top_kast": TopKAST,
}


def sparsify(
  model: keras.Model,
  optimizer: Any = "adamw",
  method: str = "rigl",
  sparsity: float | None = None,
  **arguments: Any,
) -> SparseOptimizer:
  """Makes the sparse optimizer of a model and zeroes its pruned weights.

  Args:
    model: a Keras model, whose trainable variables become sparse at once if it
      is built, else when training starts. Layers that are frozen stay dense.
    optimizer: the Keras optimizer that makes the gradient steps, its name or
      its configuration.
    method: one of `METHODS`.
    sparsity: overall share of zeros in the sparse variables, in [0, 1). None:
      0.9, or what `structure` fixes.
    **arguments: further arguments of the method, such as `frequency`.

  Returns:
    The optimizer, for `model.compile`.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile(sparsify(model, "adamw", sparsity=0.5), "mse")
  """
  if not isinstance(model, keras.Model):
    raise ValueError(
      f"`model` must be a Keras model, got {type(model).__name__}."
    )
  if method not in METHODS:
    raise ValueError(
      f"`method` must be one of {list(METHODS)}, got {method!r}."
    )
  sparse = METHODS[method](optimizer, sparsity, **arguments)
  if model.built:
    sparse.build(model.trainable_variables)
  return sparse
