# SPDX-License-Identifier: Apache-2.0
"""Top-k of many layers at once, for GPUs and TPUs.

Layer by layer, each pass over a small layer costs the launch of a kernel; here
one pass serves all layers, whose rows are stored below each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rigl.mask_ops.keys import LOWEST_KEY
from rigl.mask_ops.search import Rows
from rigl.types import Tensor


class BatchRows(Rows):
  """The rows of several layers.

  Args:
    sizes: number of connections of each layer, at least 1.
  """

  length = 1024

  def __init__(self, sizes: Sequence[int]) -> None:
    self._sizes = tuple(sizes)
    counts = [-(-size // self.length) for size in sizes]
    # The layer of each row, and the first row of each layer.
    self._layer = np.repeat(np.arange(len(sizes), dtype=np.int32), counts)
    self._first = np.cumsum([0, *counts[:-1]]).astype(np.int32)

  def lay_out(self, keys: Sequence[Tensor]) -> Tensor:
    """Stores flat int32 keys, one tensor per layer, in padded rows."""
    padded = [
      tf.pad(
        layer,
        [[0, -layer.shape[0] % self.length]],
        constant_values=LOWEST_KEY,
      )
      for layer in keys
    ]
    return tf.reshape(tf.concat(padded, 0), [-1, self.length])

  def flatten(self, mask: Tensor) -> list[Tensor]:
    """The inverse of `lay_out`: one flat tensor per layer."""
    flat = tf.reshape(mask, [-1])
    starts = self.length * self._first
    return [
      flat[start : start + size]
      for start, size in zip(starts, self._sizes, strict=True)
    ]

  def stack(self, values: Sequence[Tensor]) -> Tensor:
    """[layers], of scalars."""
    return tf.stack(values)

  def spread(self, values: Tensor) -> Tensor:
    """[rows, 1], the value of the layer of each row."""
    return tf.gather(values, self._layer)[:, None]

  def count_in_rows(self, condition: Tensor) -> Tensor:
    """The number of true values of every row, int32 [rows]."""
    return tf.reduce_sum(tf.cast(condition, tf.int32), 1)

  def count(self, condition: Tensor) -> Tensor:
    """The number of true values of every layer, int32 [layers]."""
    return self._sum(self.count_in_rows(condition))

  def reach_row(self, counts: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """The first row up to which counts reach a total, and the rest of it."""
    before = tf.cumsum(counts, exclusive=True)
    before -= tf.gather(tf.gather(before, self._first), self._layer)
    begun = before < tf.gather(total, self._layer)
    row = self._first + tf.maximum(self._sum(begun) - 1, 0)
    return row, total - tf.gather(before, row)

  def reach_column(self, counts: Tensor, total: Tensor) -> Tensor:
    """The first column up to which counts reach a total, per layer."""
    passed = tf.cumsum(counts, 1) < total[:, None]
    return tf.reduce_sum(tf.cast(passed, tf.int32), 1)

  def _sum(self, of_rows: Tensor) -> Tensor:
    """The sums over the rows of every layer, int32 [layers]."""
    return tf.math.unsorted_segment_sum(
      tf.cast(of_rows, tf.int32), self._layer, len(self._sizes)
    )
