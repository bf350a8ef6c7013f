# SPDX-License-Identifier: Apache-2.0
"""Exact top-k by a search over the bits of the k-th highest key.

The bits of the k-th highest key are fixed one by one, from the highest, by
counting how many keys reach a candidate. Every pass has static shapes and reads
the keys once, so it compiles under XLA for CPU, GPU and TPU; nothing is sorted.
Equal keys are chosen in the order of their flat index.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import tensorflow as tf

from rigl.mask_ops.keys import LOWEST_KEY
from rigl.types import Tensor

_BITS = 32


class Rows(abc.ABC):
  """Layers whose keys are stored in the rows of one matrix, and their top-k.

  A value per layer is a scalar where there is one layer, else int32 [layers].

  Attributes:
    length: number of columns.
  """

  length: int

  def top_k(self, keys: Tensor, k: Tensor) -> Tensor:
    """The mask of the highest keys of every layer.

    Args:
      keys: int32 [rows, length], of `lay_out`.
      k: int32, a value per layer: how many; at most the keys of the layer.

    Returns:
      bool [rows, length].
    """
    threshold, keys = self._kth_highest(keys, k)
    last_tie = self._last_tie(keys, threshold, k)
    threshold = self.spread(threshold)
    index = self.length * tf.range(keys.shape[0])[:, None]
    index += tf.range(self.length)
    tie = tf.equal(keys, threshold) & (index <= self.spread(last_tie))
    return (keys > threshold) | tie

  def _kth_highest(self, keys: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The k-th highest key of every layer; also returns the keys.

    The keys pass through the loop so that XLA keeps them in memory instead of
    computing them anew in every later use.
    """

    def fix_bit(
      i: Tensor, threshold: Tensor, is_exact: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
      candidate = threshold ^ tf.bitwise.left_shift(1, _BITS - 1 - i)
      count = self.count(keys >= self.spread(candidate))
      reached = (count >= k) & ~is_exact
      threshold = tf.where(reached, candidate, threshold)
      return i + 1, threshold, is_exact | (reached & tf.equal(count, k)), keys

    # A candidate that exactly k keys reach will do: no more bits are needed.
    _, threshold, _, keys = tf.while_loop(
      lambda i, _, is_exact, keys: (i < _BITS) & ~tf.reduce_all(is_exact),
      fix_bit,
      (0, tf.fill(k.shape, LOWEST_KEY), tf.zeros(k.shape, tf.bool), keys),
    )
    return threshold, keys

  def _last_tie(self, keys: Tensor, threshold: Tensor, k: Tensor) -> Tensor:
    """The flat index of the last chosen key that equals the threshold.

    Found in two steps, the row and then the column, so that no running sum over
    all keys is needed. It is -1 for a layer without one.
    """
    spread = self.spread(threshold)
    needed = k - self.count(keys > spread)
    # Not `==`, which compares identities in the graph of a TPUEstimator.
    counts = self.count_in_rows(tf.equal(keys, spread))
    row, needed = self.reach_row(counts, needed)
    ties = tf.equal(tf.gather(keys, row), tf.expand_dims(threshold, -1))
    column = self.reach_column(tf.cast(ties, tf.int32), needed)
    return tf.where(needed > 0, row * self.length + column, -1)

  @abc.abstractmethod
  def lay_out(self, keys: Sequence[Tensor]) -> Tensor:
    """Stores flat int32 keys, one tensor per layer, in padded rows."""

  @abc.abstractmethod
  def flatten(self, mask: Tensor) -> list[Tensor]:
    """The inverse of `lay_out`: one flat tensor per layer."""

  @abc.abstractmethod
  def stack(self, values: Sequence[Tensor]) -> Tensor:
    """Makes a value per layer of scalars."""

  @abc.abstractmethod
  def spread(self, values: Tensor) -> Tensor:
    """A value per layer in a shape that broadcasts over the rows."""

  @abc.abstractmethod
  def count_in_rows(self, condition: Tensor) -> Tensor:
    """The number of true values of every row, int32 [rows]."""

  @abc.abstractmethod
  def count(self, condition: Tensor) -> Tensor:
    """The number of true values of every layer."""

  @abc.abstractmethod
  def reach_row(self, counts: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """The first row of every layer up to which counts reach a total.

    Args:
      counts: int32 [rows].
      total: a value per layer, at most the sum of its rows.

    Returns:
      The row, the layer's first one for a total of 0, and what the rows before
      it leave of the total.
    """

  @abc.abstractmethod
  def reach_column(self, counts: Tensor, total: Tensor) -> Tensor:
    """The first column of every layer up to which counts reach a total.

    Args:
      counts: int32 [..., length], a row per layer.
      total: a value per layer, at most the sum of the row.
    """
