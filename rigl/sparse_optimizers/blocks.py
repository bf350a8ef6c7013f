# SPDX-License-Identifier: Apache-2.0
"""Drop and grow of layers that store only their active blocks.

Blocks are dropped by the norm of their weights and grown by the method's
scores, such as the norm of the block's dense gradient. The rule, the counts
and the noise are those of masked layers, with blocks in place of connections.
No row and no column of blocks changes its number of blocks, see
`mask_ops.grow_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from rigl import mask_ops
from rigl.mask_ops import BlockIndex
from rigl.sparse_optimizers.drop_grow_rule import DropGrowRule
from rigl.sparse_optimizers.inner import Slot
from rigl.sparse_optimizers.sparse_layer import BlockLayer
from rigl.types import Tensor


class Blocks(NamedTuple):
  """The state of a layer that an update changes.

  Attributes:
    tables: where the active blocks are.
    values: [blocks, b, b].
    slots: [blocks, b, b] each.
  """

  tables: BlockIndex
  values: Tensor
  slots: list[Tensor]


def drop_and_grow(
  rule: DropGrowRule,
  old: Blocks,
  slot_starts: Sequence[float | None],
  key: Tensor,
  fraction: Tensor,
  largest_fraction: float,
  signal: Tensor | None,
) -> Blocks:
  """One drop and grow of a layer.

  Args:
    rule: the method.
    old: the blocks before.
    slot_starts: the initial value of each slot; None if it copies the weight.
    key: uint32 [2], the random key of the layer and step.
    fraction: float32 scalar, the share of blocks to drop.
    largest_fraction: an upper bound of it, for static shapes.
    signal: float [input blocks, output blocks], what growth scores are derived
      from; None if they need nothing.

  Returns:
    The blocks afterwards, as many in every row and column as before. New ones
    have the weight 0 and fresh slots; the others keep both, bit for bit.
  """
  num_rows, per_row = old.tables.columns.shape
  num_columns, per_column = old.tables.numbers.shape
  number = num_rows * per_row
  grid = mask_ops.grid_of(old.tables.columns, num_columns)
  num_keep, num_drop = mask_ops.keep_and_drop_counts(
    tf.constant(number), fraction
  )
  drop_scores = rule.drop_scores(
    block_norms(old.values), key, _places(old.tables)
  )
  is_kept = rule.highest(drop_scores, num_keep)
  # One more, because the product is rounded in float32.
  most = min(number, int(number * largest_fraction) + 1)
  dropped = tf.minimum(
    mask_ops.places_of_ones(~is_kept[None], most)[0], number - 1
  )
  flat = tf.reshape(grid, [-1])
  scores = rule.grow_scores(
    flat, None if signal is None else tf.reshape(signal, [-1]), key
  )
  new = mask_ops.grow_blocks(
    tf.reshape(tf.cast(scores, tf.float32), grid.shape),
    grid,
    dropped // per_row,
    tf.gather(tf.reshape(old.tables.columns, [-1]), dropped),
    num_drop,
  )
  kept = mask_ops.grid_of(
    old.tables.columns, num_columns, tf.reshape(is_kept, [num_rows, per_row])
  )
  starts_anew = rule.starts_anew(
    mask_ops.DropGrow(
      mask=tf.reshape(new, [-1]), grown=tf.reshape(new & ~kept, [-1])
    ),
    flat,
  )
  index = mask_ops.index_of(new, per_row, per_column)
  at = _places(index)
  is_new = tf.gather(starts_anew, at)[:, None, None]
  source = tf.gather(tf.reshape(mask_ops.numbers_of(grid, per_row), [-1]), at)
  values = tf.where(
    is_new, tf.zeros([], old.values.dtype), tf.gather(old.values, source)
  )
  slots = [
    tf.where(
      is_new,
      tf.cast(values if start is None else start, slot.dtype),
      tf.gather(slot, source),
    )
    for slot, start in zip(old.slots, slot_starts, strict=True)
  ]
  return Blocks(index, values, slots)


def update_layer(
  rule: DropGrowRule,
  layer: BlockLayer,
  slots: Sequence[Slot],
  key: Tensor,
  fraction: Tensor,
  largest_fraction: float,
  signal: Tensor | None,
) -> list[tf.Operation]:
  """Drop and grow of the variables of a layer.

  Args:
    rule: the method.
    layer: the layer.
    slots: the slots of its values.
    key: uint32 [2], the random key of the layer and step.
    fraction: float32 scalar, the share of blocks to drop.
    largest_fraction: an upper bound of it.
    signal: what growth scores are derived from, or None.

  Returns:
    The assignments.
  """
  index = BlockIndex(
    layer.outputs_of.read_value(), layer.numbers_of.read_value()
  )
  old = Blocks(
    index,
    layer.values.read_value(),
    [slot.variable.read_value() for slot in slots],
  )
  starts = [slot.start for slot in slots]
  new = drop_and_grow(
    rule, old, starts, key, fraction, largest_fraction, signal
  )
  own = [layer.outputs_of, layer.numbers_of, layer.values]
  return [
    variable.assign(value)
    for variable, value in zip(
      [*own, *(slot.variable for slot in slots)],
      [*new.tables, new.values, *new.slots],
      strict=True,
    )
  ]


def block_norms(values: Tensor) -> Tensor:
  """The Euclidean norms of blocks.

  Args:
    values: float [..., b, b].

  Returns:
    float32 [...].
  """
  squares = tf.square(tf.cast(values, tf.float32))
  return tf.sqrt(tf.reduce_sum(squares, [-2, -1]))


def gradient_norms(
  batches: Sequence[tuple[Tensor, Tensor]],
  total: Callable[[list[Tensor]], list[Tensor]] | None = None,
) -> Tensor:
  """The norms of all blocks of the dense gradient, active or not.

  The gradient is formed for one block of inputs at a time.

  Args:
    batches: pairs of inputs [input blocks, b, tokens] and gradients of the
      outputs [output blocks, b, tokens]; the dense gradient is the sum of their
      products.
    total: sums tensors over all replicas. None: there is one.

  Returns:
    float32 [input blocks, output blocks].

  Raises:
    RuntimeError: if there are no batches.
  """
  _check_batches(batches)
  x, upstream = batches[0]
  rows, size, _ = x.shape
  columns = upstream.shape[0]

  def norms_of_row(row: Tensor | int) -> Tensor:
    gradient = tf.add_n(
      [
        tf.matmul(
          tf.reshape(gradients, [columns * size, tf.shape(x)[2]]),
          tf.gather(x, row),
          transpose_b=True,
        )
        for x, gradients in batches
      ]
    )
    gradient = tf.cast(gradient, tf.float32)
    if total is not None:
      (gradient,) = total([gradient])
    return block_norms(tf.reshape(gradient, [columns, size, size]))

  if total is not None:
    # A loop of TensorFlow cannot sum over replicas.
    return tf.stack([norms_of_row(row) for row in range(rows)])
  return tf.map_fn(
    norms_of_row,
    tf.range(rows),
    fn_output_signature=tf.TensorSpec([columns], tf.float32),
    parallel_iterations=1,
  )


def dense_gradient(batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
  """The dense gradient itself, whose norms `gradient_norms` gives.

  Args:
    batches: as for `gradient_norms`.

  Returns:
    float32 [input blocks, output blocks, b, b].

  Raises:
    RuntimeError: if there are no batches.
  """
  _check_batches(batches)
  sums = tf.add_n(
    [tf.einsum("iat,obt->ioba", x, gradients) for x, gradients in batches]
  )
  return tf.cast(sums, tf.float32)


def _check_batches(batches: Sequence[tuple[Tensor, Tensor]]) -> None:
  if not batches:
    raise RuntimeError(
      "RigL grows by the dense gradient, but no backward pass went through the "
      "layer since the last call of the optimizer. Compute the gradients in "
      "the function that calls the optimizer, not in one that it calls."
    )


def _places(index: BlockIndex) -> Tensor:
  """int32 [blocks], the places of the blocks in their grid, row by row."""
  rows = tf.range(index.columns.shape[0])[:, None]
  return tf.reshape(rows * index.numbers.shape[0] + index.columns, [-1])
