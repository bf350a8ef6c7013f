# SPDX-License-Identifier: Apache-2.0
"""Top-k of one layer, for XLA on a CPU.

One layer at a time stays in the cache, which makes this the fastest way there.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rigl.mask_ops.keys import LOWEST_KEY, count_in_rows, row_length
from rigl.mask_ops.search import Rows
from rigl.types import Tensor


class LayerRows(Rows):
  """The rows of a single layer.

  Args:
    size: number of connections of the layer, at least 1.
  """

  def __init__(self, size: int) -> None:
    self._size = size
    self.length = row_length(size)

  def lay_out(self, keys: Sequence[Tensor]) -> Tensor:
    """Stores the flat int32 keys of the layer in padded rows."""
    (flat,) = keys
    if missing := -self._size % self.length:
      flat = tf.pad(flat, [[0, missing]], constant_values=LOWEST_KEY)
    return tf.reshape(flat, [-1, self.length])

  def flatten(self, mask: Tensor) -> list[Tensor]:
    """The inverse of `lay_out`."""
    flat = tf.reshape(mask, [-1])
    return [flat if flat.shape[0] == self._size else flat[: self._size]]

  def stack(self, values: Sequence[Tensor]) -> Tensor:
    """The value of the layer."""
    (value,) = values
    return value

  def spread(self, values: Tensor) -> Tensor:
    """The value itself: scalars broadcast."""
    return values

  def count_in_rows(self, condition: Tensor) -> Tensor:
    """The number of true values of every row, int32 [rows]."""
    return count_in_rows(condition)

  def count(self, condition: Tensor) -> Tensor:
    """The number of true values, int32 scalar."""
    return tf.reduce_sum(count_in_rows(condition))

  def reach_row(self, counts: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """The first row up to which counts reach a total, and the rest of it."""
    row = _reach(counts, total)
    before = tf.reduce_sum(tf.where(_is_before(counts, row), counts, 0))
    return row, total - before

  def reach_column(self, counts: Tensor, total: Tensor) -> Tensor:
    """The first column up to which counts reach a total."""
    return _reach(counts, total)


def _reach(counts: Tensor, total: Tensor) -> Tensor:
  """The first index up to which counts add up to a total.

  A search over the bits of the index, because XLA takes longer to compile a
  running sum than all the rest.

  Args:
    counts: int32 [n].
    total: int32 scalar, at most the sum of all; for 0 the index is 0.
  """
  num_bits = max(counts.shape[0] - 1, 1).bit_length()

  def fix_bit(i: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    candidate = index + tf.bitwise.left_shift(1, num_bits - 1 - i)
    before = tf.reduce_sum(tf.where(_is_before(counts, candidate), counts, 0))
    return i + 1, tf.where(before < total, candidate, index)

  return tf.while_loop(lambda i, _: i < num_bits, fix_bit, (0, 0))[1]


def _is_before(values: Tensor, index: Tensor) -> Tensor:
  """Which elements of a vector come before an index."""
  return tf.range(values.shape[0]) < index
