# SPDX-License-Identifier: Apache-2.0
"""Growth of blocks that changes the number of no row and of no column.

The dropped blocks are pairs of a row and a column. What grows is another
pairing of the same rows with the same columns, so every row and every column
gets back as many blocks as it lost.
"""

from __future__ import annotations

import tensorflow as tf

from rigl.types import Tensor

# Pairs that are paired anew together; memory grows with the square.
_TOGETHER = 512
# A swap must raise the total by this share of the largest score. Sums are
# rounded, so smaller gains could go round in circles.
_LEAST_GAIN = 1e-6
_LARGEST = 1e30


def grow_blocks(
  scores: Tensor,
  is_active: Tensor,
  rows: Tensor,
  columns: Tensor,
  number: Tensor,
) -> Tensor:
  """Replaces active blocks of a grid by others of higher score.

  It starts by growing what was dropped. Then it takes the two pairs (i, j) and
  (k, l) whose exchange for (i, l) and (k, j) raises the sum of the scores most,
  as long as there are some; an exchange for a block that is active is not
  allowed. Each exchange leaves the number of blocks in every row and in every
  column as it is. The sum ends at a local maximum, typically within 3 % of the
  largest one that these rows and columns allow. More than 512 pairs are paired
  in groups of 512.

  Args:
    scores: float32 [rows, columns]; those below 0 and NaN count as 0.
    is_active: bool [rows, columns], the grid, dropped blocks included.
    rows: int32 [n], the rows of the dropped blocks.
    columns: int32 [n], their columns.
    number: int32 scalar; only the first `number` of n are dropped.

  Returns:
    Bool [rows, columns], the grid of kept and grown blocks.
  """
  num_rows, num_columns = is_active.shape
  total = rows.shape[0]
  if total < 2:
    return is_active
  size = min(total, _TOGETHER)
  groups = -(-total // size)
  padding = [[0, groups * size - total]]
  rows, columns = tf.pad(rows, padding), tf.pad(columns, padding)
  scores = tf.where(scores > 0, tf.minimum(scores, _LARGEST), 0.0)
  scores = tf.reshape(scores, [-1])
  least = _LEAST_GAIN * tf.reduce_max(scores)

  def unfinished(group: Tensor, *_: Tensor) -> Tensor:
    return group < groups

  def exchange(
    group: Tensor, swaps: Tensor, columns: Tensor, grid: Tensor
  ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first = group * size
    i = tf.ensure_shape(tf.slice(rows, [first], [size]), [size])
    j = tf.ensure_shape(tf.slice(columns, [first], [size]), [size])
    cells = i[:, None] * num_columns + j
    gains = _gains(
      tf.gather(scores, cells),
      tf.gather(grid, cells),
      first + tf.range(size) < number,
    )
    best = tf.argmax(tf.reshape(gains, [-1]), output_type=tf.int32)
    one, other = best // size, best % size
    better = tf.gather(tf.reshape(gains, [-1]), best) > least
    better &= swaps < 8 * size

    old = tf.gather(tf.linalg.diag_part(cells), [one, other])
    new = tf.stack([cells[one, other], cells[other, one]])
    swapped = tf.tensor_scatter_nd_update(
      columns, [[first + one], [first + other]], tf.gather(j, [other, one])
    )
    moved = tf.tensor_scatter_nd_update(
      grid, tf.concat([old, new], 0)[:, None], [False, False, True, True]
    )
    return (
      tf.where(better, group, group + 1),
      tf.where(better, swaps + 1, 0),
      tf.where(better, swapped, columns),
      tf.where(better, moved, grid),
    )

  start = (
    tf.constant(0),
    tf.constant(0),
    columns,
    tf.reshape(is_active, [num_rows * num_columns]),
  )
  *_, grid = tf.while_loop(unfinished, exchange, start)
  return tf.reshape(grid, [num_rows, num_columns])


def _gains(scores: Tensor, is_active: Tensor, is_real: Tensor) -> Tensor:
  """What each exchange of two pairs adds to the sum of the scores.

  Args:
    scores: float32 [n, n], those of row i with column j of pairs i and j.
    is_active: bool [n, n], whether that block is active.
    is_real: bool [n], whether there is such a pair.

  Returns:
    float32 [n, n]; 0 where the exchange is not allowed.
  """
  own = tf.linalg.diag_part(scores)
  free = ~is_active & is_real & is_real[:, None]
  # Sums in this order: to exchange back gains exactly the opposite.
  gains = (scores + tf.transpose(scores)) - (own + own[:, None])
  return tf.where(free & tf.transpose(free), gains, 0.0)
