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
from rigl.sparse_optimizers import dense_rows, sorted_positions
from rigl.sparse_optimizers.dense_rows import RowSignal, blocks_of_rows
from rigl.sparse_optimizers.drop_grow_rule import DropGrowRule
from rigl.sparse_optimizers.sparse_layer import NO_POSITION
from rigl.types import Tensor


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
  signal_of_rows: RowSignal,
) -> Connections:
  """One drop and grow of a layer, on the host.

  Args:
    rule: the method.
    shape: (inputs, outputs) of the kernel.
    old: the connections before.
    slot_starts: the initial value of each slot; None if it copies the weight.
    key: uint32 [2], the random key of the layer and step.
    fraction: float32 scalar, the share of connections to drop.
    signal_of_rows: what growth scores are derived from.

  Returns:
    The connections afterwards, as many as before.
  """
  number = old.positions.size
  drop_scores = rule.drop_scores(old.values, key, old.positions)
  num_keep, num_drop = mask_ops.keep_and_drop_counts(
    tf.constant(number), fraction
  )
  is_kept = topk_numpy.top_k(
    mask_ops.order_keys(drop_scores).numpy(), int(num_keep)
  )
  kept = old.positions[is_kept]
  best = _Best(int(num_drop))
  for first, last in blocks_of_rows(shape):
    start, end = first * shape[1], last * shape[1]
    mask = np.zeros(end - start, bool)
    mask[_within(old.positions, start, end)] = True
    signal = signal_of_rows(first, last)
    scores = rule.grow_scores(
      tf.constant(mask),
      None if signal is None else tf.constant(signal),
      key,
      start,
    )
    best.add(np.asarray(scores), _within(kept, start, end), start, signal)
  best.choose()
  union = sorted_positions.union(old.positions, best.positions)
  was = sorted_positions.members(union, old.positions)
  grown = sorted_positions.members(union, best.positions)
  stays = sorted_positions.members(union, kept)

  def spread(values: np.ndarray) -> np.ndarray:
    result = np.zeros(union.size, values.dtype)
    result[was] = values
    return result

  signal = None
  if best.signals is not None:
    signal = np.zeros(union.size, best.signals.dtype)
    signal[grown] = best.signals
  values, mask, slots = rule.updated(
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
    positions=tf.constant(union),
  )
  chosen = mask.numpy()
  return Connections(
    union[chosen],
    values.numpy()[chosen],
    [slot.numpy()[chosen] for slot in slots],
  )


def moved_connections(
  rule: DropGrowRule,
  shape: tuple[int, ...],
  positions: Tensor,
  values: Tensor,
  slots: Sequence[Tensor],
  slot_starts: Sequence[float | None],
  key: Tensor,
  fraction: Tensor,
  sampled: Tensor | None,
  signal_of_rows: Callable[[np.ndarray, np.ndarray], RowSignal],
) -> tuple[Tensor, Tensor, list[Tensor]]:
  """`drop_and_grow` of tensors, eagerly or as an operation of a graph.

  Args:
    rule: the method.
    shape: (inputs, outputs) of the kernel.
    positions: int32 [n], ascending, maybe filled up with `NO_POSITION`.
    values: [n], the weights.
    slots: [n] each.
    slot_starts: the initial value of each slot; None if it copies the weight.
    key: uint32 [2], the random key of the layer and step.
    fraction: float32 scalar, the share of connections to drop.
    sampled: [n], the gradient of the weights; the update waits for it, because
      the layer keeps what its dense gradient is made of when it is computed.
      None: there is none.
    signal_of_rows: called on the host with positions and sampled gradient; what
      growth scores are derived from.

  Returns:
    Positions, weights and slots afterwards, filled up as before.
  """

  def update(
    positions: Tensor,
    key: Tensor,
    fraction: Tensor,
    sampled: Tensor,
    *stored: Tensor,
  ) -> list[np.ndarray]:
    places = positions.numpy()
    number = int(np.searchsorted(places, NO_POSITION))
    own, *others = (each.numpy() for each in stored)
    new = drop_and_grow(
      rule,
      shape,
      Connections(
        places[:number], own[:number], [slot[:number] for slot in others]
      ),
      slot_starts,
      key,
      fraction,
      signal_of_rows(places, sampled.numpy()),
    )
    return [
      np.concatenate([now, before[number:]])
      for now, before in zip(
        [new.positions, new.values, *new.slots],
        [places, own, *others],
        strict=True,
      )
    ]

  given = tf.zeros_like(values) if sampled is None else sampled
  inputs = [positions, key, fraction, given, values, *slots]
  if tf.executing_eagerly():
    results = [tf.constant(each) for each in update(*inputs)]
  else:
    dtypes = [tf.int32, *(each.dtype for each in (values, *slots))]
    results = tf.py_function(update, inputs, dtypes)
    for each in results:
      each.set_shape(values.shape)
  return results[0], results[1], list(results[2:])


def kept_connections(
  mask: Tensor,
  positions: Tensor,
  values: Tensor,
  slots: Sequence[Tensor],
  slot_starts: Sequence[float | None],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
  """Moves the connections that stay to the front, and clears the others.

  Args:
    mask: bool [n], the connections that stay.
    positions: int32 [n], ascending.
    values: [n], the weights.
    slots: [n] each.
    slot_starts: the initial value of each slot; None if it copies the weight.

  Returns:
    The mask, positions, weights and slots in the new order. Others have the
    position `NO_POSITION`, the weight 0 and the slots of the start.
  """
  order = tf.argsort(tf.cast(~mask, tf.int32), stable=True)
  stays = tf.gather(mask, order)
  positions = tf.where(stays, tf.gather(positions, order), NO_POSITION)
  values = tf.gather(values, order)
  values = tf.where(stays, values, tf.zeros([], values.dtype))
  moved_slots = []
  for slot, start in zip(slots, slot_starts, strict=True):
    rest = tf.cast(values if start is None else start, slot.dtype)
    moved_slots.append(tf.where(stays, tf.gather(slot, order), rest))
  return stays, positions, values, moved_slots


class _Best:
  """The connections of highest score among all blocks.

  Of equal scores the first stay, as in `topk_numpy`. What blocks have to offer
  waits until it is as much as is wanted, so that few choices are made.

  Attributes:
    positions: int32 [n], ascending, after `choose`.
    signals: the signals there; None if blocks have none.

  Args:
    number: how many are wanted.
  """

  def __init__(self, number: int) -> None:
    self._number = number
    self._keys = [np.empty(0, np.int32)]
    self._positions = [np.empty(0, np.int32)]
    self._scores: list[np.ndarray] = []
    self._signals: list[np.ndarray] = []
    # Only higher scores are of use. None: all are.
    self._least: np.ndarray | None = None

  def add(
    self,
    scores: np.ndarray,
    excluded: np.ndarray,
    start: int,
    signal: np.ndarray | None,
  ) -> None:
    """Takes the next block of flat connections.

    Args:
      scores: [n].
      excluded: those of the block that must not be chosen, from 0.
      start: the position of the first one.
      signal: [n], or None.
    """
    if not self._number:
      useful = np.zeros(scores.shape, bool)
    elif self._least is None:
      useful = np.ones(scores.shape, bool)
    else:
      useful = scores > self._least
    useful[excluded] = False
    found = np.flatnonzero(useful)
    scores = scores[found]
    self._scores.append(scores)
    self._keys.append(mask_ops.order_keys(tf.constant(scores)).numpy())
    self._positions.append((start + found).astype(np.int32))
    if signal is not None:
      self._signals.append(signal[found])
    waiting = sum(each.size for each in self._keys[1:])
    if waiting >= max(self._number, dense_rows.BLOCK_SIZE):
      self.choose()

  def choose(self) -> None:
    """Chooses among all that was taken; call it after the last block."""
    keys = np.concatenate(self._keys)
    chosen = topk_numpy.top_k(keys, min(self._number, keys.size))
    self._keys = [keys[chosen]]
    self._positions = [np.concatenate(self._positions)[chosen]]
    self._scores = [np.concatenate(self._scores)[chosen]]
    if self._signals:
      self._signals = [np.concatenate(self._signals)[chosen]]
    if 0 < self._number == self._keys[0].size:
      least = self._scores[0][np.argmin(self._keys[0])]
      # Any other score is higher than one that is no number.
      self._least = None if np.isnan(least) else least

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
