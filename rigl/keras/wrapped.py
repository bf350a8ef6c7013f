# SPDX-License-Identifier: Apache-2.0
"""The sparse optimizer of a compiled Keras model."""

from __future__ import annotations

from typing import Any

import keras

from rigl.keras.base import SparseOptimizer


def find_sparse_optimizer(model: keras.Model) -> SparseOptimizer | None:
  """The sparse optimizer of a model, also within a `LossScaleOptimizer`.

  Args:
    model: a Keras model, compiled or not.

  Returns:
    The optimizer; None if the model was compiled with another one, or not.
  """
  optimizer = getattr(model, "optimizer", None)
  if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
    optimizer = optimizer.inner_optimizer
  return optimizer if isinstance(optimizer, SparseOptimizer) else None


def sparse_optimizer_of(model: keras.Model) -> SparseOptimizer:
  """The sparse optimizer of a model.

  Args:
    model: a Keras model that was compiled with an optimizer of `rigl.keras`.

  Raises:
    ValueError: if it was not.
  """
  found = find_sparse_optimizer(model)
  if found is None:
    optimizer = type(getattr(model, "optimizer", None)).__name__
    raise ValueError(
      "`model` must be compiled with a sparse optimizer of rigl.keras, such as "
      f"RigL, got one with the optimizer {optimizer}."
    )
  return found


def number_of(value: Any) -> int:
  """The value of an integer variable, also one with a copy per replica."""
  return int(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(value)))
