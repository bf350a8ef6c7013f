# SPDX-License-Identifier: Apache-2.0
"""Gradients that a caller gives: pairs, checked and made dense."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rigl.checks import describe
from rigl.sparse_optimizers.kernels import as_variable
from rigl.types import Tensor, Variable

_PAIRS = "`grads_and_vars` must be pairs of a gradient and a variable"


def dense_pairs(grads_and_vars: Any) -> list[tuple[Tensor, Variable]]:
  """Checks gradients, and leaves out variables that have none.

  Args:
    grads_and_vars: pairs of a gradient, or None, and a variable of TensorFlow
      or Keras. A gradient has the shape and dtype of its variable.

  Returns:
    Pairs of dense tensors and `tf.Variable`s.

  Raises:
    ValueError: if they are not as described, or a variable comes twice.
  """
  try:
    pairs = [(gradient, variable) for gradient, variable in grads_and_vars]
  except (TypeError, ValueError):
    raise ValueError(f"{_PAIRS}, got {describe(grads_and_vars)}.") from None
  result: list[tuple[Tensor, Variable]] = []
  seen: set[int] = set()
  for gradient, given in pairs:
    try:
      variable = as_variable(given)
    except ValueError:
      raise ValueError(f"{_PAIRS}, got {describe(given)} as one.") from None
    if gradient is None:
      continue
    if id(variable) in seen:
      raise ValueError(
        f"`grads_and_vars` holds two gradients of {variable.name!r}; add them."
      )
    seen.add(id(variable))
    result.append((_dense(gradient, variable), variable))
  return result


def _dense(gradient: Any, variable: Variable) -> Tensor:
  """A gradient as a tensor of its variable's shape and dtype."""
  if isinstance(gradient, tf.IndexedSlices):
    rows = tf.TensorShape([None, *variable.shape[1:]])
    _check_shape(gradient.values, rows, variable)
    gradient = tf.IndexedSlices(
      gradient.values,
      gradient.indices,
      tf.constant(tuple(variable.shape), tf.int32),
    )
  try:
    gradient = tf.convert_to_tensor(gradient, dtype_hint=variable.dtype)
  except (TypeError, ValueError):
    raise ValueError(
      f"The gradient of {variable.name!r} must be a tensor, got "
      f"{describe(gradient)}."
    ) from None
  if gradient.dtype != variable.dtype:
    raise ValueError(
      f"The gradient of {variable.name!r} must have its dtype, "
      f"{variable.dtype.name}, got {gradient.dtype.name}."
    )
  _check_shape(gradient, variable.shape, variable)
  if not gradient.shape.is_fully_defined():
    gradient = tf.ensure_shape(gradient, variable.shape)
  return gradient


def _check_shape(
  gradient: Tensor, expected: tf.TensorShape, variable: Variable
) -> None:
  if not gradient.shape.is_compatible_with(expected):
    raise ValueError(
      f"The gradient of {variable.name!r} must have the shape {expected}, got "
      f"{gradient.shape}."
    )
