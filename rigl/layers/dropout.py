# SPDX-License-Identifier: Apache-2.0
"""Dropout as a function of a key, the same with and without XLA."""

from __future__ import annotations

import tensorflow as tf

from rigl.checks import check_number
from rigl.types import Tensor

_LEVELS = 2**16


def dropout(values: Tensor, rate: float, key: Tensor) -> Tensor:
  """Zeroes values at random and scales the others by 1 / (1 - rate).

  (Srivastava et al., 2014.) It draws 16 random bits per value from integers of
  the Philox generator. These are the same in eager TensorFlow, in compiled
  programs and on every device, unlike TensorFlow's random floats, and take two
  thirds of the time. The rate is rounded to a multiple of 2^-16.

  Args:
    values: float tensor of static shape.
    rate: share of zeros, in [0, 1).
    key: integer [2]; together with the shape it decides which values are
      zeroed.

  Returns:
    Tensor of the same shape and dtype.

  Raises:
    ValueError: if the shape is not static or the rate out of range.
  """
  check_number("rate", rate, 0, 1, below=True)
  size = values.shape.num_elements()
  if size is None:
    raise ValueError(f"`values` must have a static shape, got {values.shape}.")
  words = tf.random.stateless_uniform(
    [(size + 1) // 2], key, None, None, tf.uint32, alg="philox"
  )
  levels = tf.reshape(tf.bitcast(words, tf.int16), [-1])
  levels = levels if size % 2 == 0 else levels[:size]
  zeroed = min(round(rate * _LEVELS), _LEVELS - 1)  # Of all levels.
  lowest_kept = tf.constant(zeroed - _LEVELS // 2, tf.int16)
  kept = tf.reshape(levels >= lowest_kept, values.shape)
  scaled = values * tf.cast(1.0 / (1.0 - rate), values.dtype)
  return tf.where(kept, scaled, tf.zeros([], values.dtype))
