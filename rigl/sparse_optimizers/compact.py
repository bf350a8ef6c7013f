# SPDX-License-Identifier: Apache-2.0
"""Drop and grow of layers that store only their active connections.

The rule, the scores and the random numbers are those of masked layers. Growth
scores are computed for a block of rows at a time, of which the best are kept,
so that memory stays proportional to the active connections and one block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.mask_ops import topk_numpy
from rigl.sparse_optimizers.drop_grow_rule import DropGrowRule, grow_key
from rigl.types import Tensor

# Connections per block of rows.
_BLOCK = 2**20


# The growth signal of the rows `first` to `last` of a kernel, flat.
BlockSignal = Callable[[int, int], np.ndarray | None]


class Connections:
  """The state of a layer that an update changes.

  Attributes:
    positions: int32 [n], ascending.
    values: [n].
    slots: [n] each.
  """

  def __init__(
    self,
    positions: np.ndarray,
    values: np.ndarray,
    slots: Sequence[np.ndarray],
  ) -> None:
    self.positions = positions
    self.values = values
    self.slots = list(slots)


def drop_and_grow(
  rule: DropGrowRule,
  shape: tuple[int, ...],
  old: Connections,
  slot_starts: Sequence[float | None],
  key: Tensor,
  fraction: Tensor,
  signal_of_rows: BlockSignal,
) -> Connections:
  """One drop and grow of a layer, on the host.

  Args:
    rule: the method.
    shape: (inputs, outputs) of the kernel.
    old: the connections before.
    slot_starts: the initial value of each slot; None for a copy of the weight.
    key: uint32 [2], the random key of the layer and step.
    fraction: float32 scalar, the share of connections to drop.
    signal_of_rows: what growth scores are derived from.

  Returns:
    The connections afterwards, as many as before.
  """
  number = old.positions.size
  drop_scores = rule._drop_scores(old.values, key, old.positions)
  num_keep, num_drop = mask_ops.keep_and_drop_counts(
    tf.constant(number), fraction
  )
  is_kept = topk_numpy.top_k(
    mask_ops.order_keys(drop_scores).numpy(), int(num_keep)
  )
  kept = old.positions[is_kept]
  best = _Best(int(num_drop))
  for first, last in _blocks(shape):
    start, end = first * shape[1], last * shape[1]
    mask = np.zeros(end - start, bool)
    mask[_within(old.positions, start, end)] = True
    signal = signal_of_rows(first, last)
    scores = rule._grow_scores(
      tf.constant(mask),
      None if signal is None else tf.constant(signal),
      grow_key(key) + tf.constant([start, 0], tf.uint32),
    )
    keys = np.array(mask_ops.order_keys(tf.convert_to_tensor(scores)))
    keys[_within(kept, start, end)] = mask_ops.LOWEST_KEY
    best.add(keys, start, signal)
  best.choose()
  union = np.union1d(old.positions, best.positions)
  was = np.isin(union, old.positions, assume_unique=True)
  grown = np.isin(union, best.positions, assume_unique=True)
  stays = np.isin(union, kept, assume_unique=True)

  def spread(values: np.ndarray) -> np.ndarray:
    result = np.zeros(union.size, values.dtype)
    result[was] = values
    return result

  signal = None
  if best.signals is not None:
    signal = np.zeros(union.size, best.signals.dtype)
    signal[grown] = best.signals
  values, mask, slots = rule._updated(
    mask_ops.DropGrow(
      mask=tf.constant(stays | grown), grown=tf.constant(grown)
    ),
    weights=tf.constant(spread(old.values)),
    mask=tf.constant(was),
    signal=None if signal is None else tf.constant(signal),
    initial=None,
    slots=[tf.constant(spread(slot)) for slot in old.slots],
    slot_starts=slot_starts,
    key=key,
    positions=tf.constant(union.astype(np.int32)),
  )
  chosen = mask.numpy()
  return Connections(
    union[chosen].astype(np.int32),
    values.numpy()[chosen],
    [slot.numpy()[chosen] for slot in slots],
  )


class _Best:
  """The connections of highest key among all blocks.

  Of equal keys the first stay, as in `topk_numpy`. What blocks have to offer
  waits until it is as much as is wanted, so that few choices are made.

  Attributes:
    positions: int64 [n], ascending, after `choose`.
    signals: the signals there; None if blocks have none.

  Args:
    number: how many are wanted.
  """

  def __init__(self, number: int) -> None:
    self._number = number
    self._keys = [np.empty(0, np.int32)]
    self._positions = [np.empty(0, np.int64)]
    self._signals: list[np.ndarray] = []
    # Only higher keys are of use.
    self._least = mask_ops.LOWEST_KEY if number else np.iinfo(np.int32).max

  def add(
    self, keys: np.ndarray, start: int, signal: np.ndarray | None
  ) -> None:
    """Takes the next block of flat connections, which begins at `start`."""
    found = np.flatnonzero(keys > self._least)
    self._keys.append(keys[found])
    self._positions.append(start + found)
    if signal is not None:
      self._signals.append(signal[found])
    waiting = sum(each.size for each in self._keys[1:])
    if waiting >= max(self._number, _BLOCK):
      self.choose()

  def choose(self) -> None:
    """Chooses among all that was taken; call it after the last block."""
    keys = np.concatenate(self._keys)
    chosen = topk_numpy.top_k(keys, min(self._number, keys.size))
    self._keys = [keys[chosen]]
    self._positions = [np.concatenate(self._positions)[chosen]]
    if self._signals:
      self._signals = [np.concatenate(self._signals)[chosen]]
    if 0 < self._number == self._keys[0].size:
      self._least = int(self._keys[0].min())

  @property
  def positions(self) -> np.ndarray:
    return self._positions[0]

  @property
  def signals(self) -> np.ndarray | None:
    return self._signals[0] if self._signals else None


def _within(positions: np.ndarray, start: int, end: int) -> np.ndarray:
  """The positions from `start` to `end`, counted from `start`."""
  first, last = np.searchsorted(positions, [start, end])
  return positions[first:last] - start


def _blocks(shape: tuple[int, ...]) -> list[tuple[int, int]]:
  """Ranges of rows of at most `_BLOCK` connections, or of one row."""
  rows = max(1, _BLOCK // shape[1])
  return [
    (first, min(first + rows, shape[0])) for first in range(0, shape[0], rows)
  ]
