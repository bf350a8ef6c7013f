# SPDX-License-Identifier: Apache-2.0
"""Order keys: int32 numbers that sort like the scores they are made of.

Scores of all types become int32 keys, so that one search serves them all, on
every device and in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rigl.types import Tensor

# Below every key of a real score: marks what must not be chosen.
LOWEST_KEY = -(2**31)
_FLOATS = (tf.float32, tf.float64, tf.bfloat16, tf.float16)
# Counting adds ones as float32 in rows, which is exact and, as a product with
# a vector of ones, about five times faster than an integer sum on a CPU. Rows
# that need no padding save a copy.
_ROW, _ROW_RANGE = 1024, range(2048, 255, -1)


def order_keys(scores: Tensor) -> Tensor:
  """Maps scores to int32 keys of the same order, NaN to the lowest but one.

  Args:
    scores: float32, float64, bfloat16, float16 or int32 tensor. float64 is
      rounded to float32 first, so that scores which differ less are ties.

  Returns:
    int32 of the same shape, above `LOWEST_KEY`.

  Raises:
    ValueError: if the dtype is not one of these.
  """
  if scores.dtype == tf.int32:
    return tf.maximum(scores, LOWEST_KEY + 1)
  if scores.dtype not in _FLOATS:
    raise ValueError(
      "`scores` must be float32, float64, bfloat16, float16 or int32, got "
      f"{scores.dtype.name}."
    )
  scores = tf.cast(scores, tf.float32)
  bits = tf.bitcast(scores, tf.int32)
  bits = tf.where(tf.equal(bits, LOWEST_KEY), 0, bits)  # -0 equals +0.
  # Floats order like sign and magnitude; flip the magnitude of negatives.
  sign = tf.bitwise.right_shift(bits, 31)
  keys = bits ^ tf.bitwise.bitwise_and(sign, 0x7FFFFFFF)
  return tf.where(tf.math.is_nan(scores), LOWEST_KEY + 1, keys)


def count_ones(mask: Tensor) -> Tensor:
  """Returns the number of ones of a bool tensor as an int32 scalar."""
  mask = tf.convert_to_tensor(mask)
  size = mask.shape.num_elements()
  length = size and row_length(size)
  if not length or size % length:
    return tf.reduce_sum(tf.cast(mask, tf.int32))
  return tf.reduce_sum(count_in_rows(tf.reshape(mask, [-1, length])))


def row_length(size: int) -> int:
  """The length of rows that divides a size, else that of padded rows."""
  return next((n for n in _ROW_RANGE if size % n == 0), _ROW)


def count_in_rows(condition: Tensor) -> Tensor:
  """The number of true values in each row of a bool matrix, int32."""
  ones = tf.where(condition, 1.0, 0.0)
  ones_of_row = tf.ones([condition.shape[1]])
  return tf.cast(tf.linalg.matvec(ones, ones_of_row), tf.int32)


def compiled_by_shape(function: Callable[..., Any]) -> Any:
  """Compiles a function of tensors with XLA, one program for each shape.

  Args:
    function: pure function of (nested) tensors of static shapes, or None.

  Returns:
    The `tf.function`.
  """
  compiled = tf.function(function, jit_compile=True, autograph=False)
  # A network has kernels of many shapes: that each is traced once is intended
  # and no reason for a warning. (TensorFlow has no public switch for it.)
  compiled._omit_frequent_tracing_warning = True
  return compiled
