"""Drop and grow of many layers at once, for GPUs and TPUs.

The results are those of `mask_ops.drop_and_grow`, layer by layer. There, each
pass over a small layer costs the start of a kernel; here one pass serves all
layers, which lie in rows one below the other. (On a CPU, a layer at a time
stays in the cache and is faster.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.types import Tensor

_ROW = 1024
_LOWEST_KEY, _BITS = mask_ops.LOWEST_KEY, mask_ops.BITS


class _Rows(NamedTuple):
  """How flat layers lie in rows.

  Attributes:
    sizes: number of values of each layer.
    layer: int32 [rows], the layer of each row.
    first: int32 [layers], the first row of each layer.
  """

  sizes: tuple[int, ...]
  layer: np.ndarray
  first: np.ndarray


def drop_and_grow(
  drop_scores: Sequence[Tensor],
  masks: Sequence[Tensor],
  grow_scores: Sequence[Tensor],
  drop_fraction: Tensor,
) -> list[mask_ops.DropGrow]:
  """Drops and grows in every layer; see `mask_ops.drop_and_grow`.

  Args:
    drop_scores: float [n] of each layer, none of them empty.
    masks: bool [n] of each layer.
    grow_scores: float or int32 [n] of each layer.
    drop_fraction: float32 scalar in [0, 1], of all layers.

  Returns:
    The results of each layer, bool [n].
  """
  rows = _layout([mask.shape[0] for mask in masks])
  drop_keys = [
    tf.where(mask, mask_ops.order_keys(scores), _LOWEST_KEY)
    for scores, mask in zip(drop_scores, masks, strict=True)
  ]
  grow_keys = _to_rows([mask_ops.order_keys(s) for s in grow_scores])
  num_ones = tf.stack([mask_ops.count_ones(mask) for mask in masks])
  num_prune = tf.cast(
    tf.cast(num_ones, tf.float32) * tf.cast(drop_fraction, tf.float32), tf.int32
  )
  kept = _top_k(_to_rows(drop_keys), num_ones - num_prune, rows)
  grown = _top_k(tf.where(kept, _LOWEST_KEY, grow_keys), num_prune, rows)
  new, grown = _from_rows(kept | grown, rows), _from_rows(grown, rows)
  return [
    mask_ops.DropGrow(mask=mask, grown=chosen)
    for mask, chosen in zip(new, grown, strict=True)
  ]


def _layout(sizes: Sequence[int]) -> _Rows:
  counts = [-(-size // _ROW) for size in sizes]
  layer = np.repeat(np.arange(len(sizes), dtype=np.int32), counts)
  first = np.cumsum([0, *counts[:-1]]).astype(np.int32)
  return _Rows(tuple(sizes), layer, first)


def _to_rows(layers: Sequence[Tensor]) -> Tensor:
  """Lays int32 [n] keys of layers out in rows, filled up with the lowest."""
  padded = [
    tf.pad(keys, [[0, -keys.shape[0] % _ROW]], constant_values=_LOWEST_KEY)
    for keys in layers
  ]
  return tf.reshape(tf.concat(padded, 0), [-1, _ROW])


def _from_rows(values: Tensor, rows: _Rows) -> list[Tensor]:
  flat = tf.reshape(values, [-1])
  return [
    flat[first * _ROW : first * _ROW + size]
    for first, size in zip(rows.first, rows.sizes, strict=True)
  ]


def _top_k(keys: Tensor, k: Tensor, rows: _Rows) -> Tensor:
  """The mask of the k (int32 [layers]) highest keys of every layer."""
  threshold, keys = _kth_highest(keys, k, rows)
  last_tie = _position_of_last_tie(keys, threshold, k, rows)
  threshold, last_tie = (
    tf.gather(value, rows.layer) for value in (threshold, last_tie)
  )
  past_it = _ROW * tf.range(keys.shape[0]) - last_tie
  threshold, past_it = threshold[:, None], past_it[:, None] + tf.range(_ROW)
  tie = tf.equal(keys, threshold) & (past_it <= 0)
  return (keys > threshold) | tie


def _kth_highest(keys: Tensor, k: Tensor, rows: _Rows) -> tuple[Tensor, Tensor]:
  """The k-th highest key of every layer; also returns the keys, in memory."""

  def fix_bit(
    i: Tensor, threshold: Tensor, is_exact: Tensor, keys: Tensor
  ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    candidate = threshold ^ tf.bitwise.left_shift(1, _BITS - 1 - i)
    reached = keys >= tf.gather(candidate, rows.layer)[:, None]
    count = _count(reached, rows)
    better = (count >= k) & ~is_exact
    threshold = tf.where(better, candidate, threshold)
    return i + 1, threshold, is_exact | (better & tf.equal(count, k)), keys

  _, threshold, _, keys = tf.while_loop(
    lambda i, _, is_exact, keys: (i < _BITS) & ~tf.reduce_all(is_exact),
    fix_bit,
    (0, tf.fill(k.shape, _LOWEST_KEY), tf.zeros(k.shape, tf.bool), keys),
  )
  return threshold, keys


def _position_of_last_tie(
  keys: Tensor, threshold: Tensor, k: Tensor, rows: _Rows
) -> Tensor:
  """The flat position of every layer's last key that is taken as a tie.

  Returns -1 for a layer without one.
  """
  of_row = tf.gather(threshold, rows.layer)[:, None]
  needed = k - _count(keys > of_row, rows)
  ties = tf.reduce_sum(tf.cast(tf.equal(keys, of_row), tf.int32), 1)
  before = tf.cumsum(ties, exclusive=True)
  before -= tf.gather(tf.gather(before, rows.first), rows.layer)
  begun = before < tf.gather(needed, rows.layer)
  row = rows.first + tf.maximum(_sum(begun, rows) - 1, 0)
  needed_in_row = needed - tf.gather(before, row)
  tie = tf.equal(tf.gather(keys, row), threshold[:, None])
  passed = tf.cumsum(tf.cast(tie, tf.int32), 1) < needed_in_row[:, None]
  column = tf.reduce_sum(tf.cast(passed, tf.int32), 1)
  return tf.where(needed > 0, row * _ROW + column, -1)


def _count(condition: Tensor, rows: _Rows) -> Tensor:
  """The number of true values of every layer, int32 [layers]."""
  return _sum(tf.reduce_sum(tf.cast(condition, tf.int32), 1), rows)


def _sum(of_rows: Tensor, rows: _Rows) -> Tensor:
  return tf.math.unsorted_segment_sum(
    tf.cast(of_rows, tf.int32), rows.layer, len(rows.sizes)
  )
