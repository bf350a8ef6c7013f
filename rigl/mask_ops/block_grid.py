# SPDX-License-Identifier: Apache-2.0
"""Grids of active blocks with the same number in every row, and every column.

A kernel of b x b blocks is a bool grid, true where a block is active. Two
tables of static shapes say the same: which columns a row uses, and where the
blocks of a column are stored.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from rigl.types import Tensor


class BlockIndex(NamedTuple):
  """Where the active blocks of a grid are.

  Blocks are numbered row by row, and by columns within a row.

  Attributes:
    columns: int32 [rows, blocks per row], ascending in each row.
    numbers: int32 [columns, blocks per column], the numbers of the blocks of
      each column, ascending; block n is in the row n // (blocks per row).
  """

  columns: Tensor
  numbers: Tensor


def grid_of(
  columns: Tensor, num_columns: int, chosen: Tensor | None = None
) -> Tensor:
  """The grid of some blocks.

  Args:
    columns: int32 [rows, blocks per row], the columns of the blocks.
    num_columns: the number of columns.
    chosen: bool [rows, blocks per row], which blocks count. None: all.

  Returns:
    Bool [rows, num_columns].
  """
  found = tf.equal(columns[:, :, None], tf.range(num_columns))
  if chosen is not None:
    found &= chosen[:, :, None]
  return tf.reduce_any(found, 1)


def index_of(grid: Tensor, per_row: int, per_column: int) -> BlockIndex:
  """The index of a grid.

  Args:
    grid: bool [rows, columns].
    per_row: active blocks in every row.
    per_column: active blocks in every column.
  """
  rows = grid.shape[0]
  by_column = tf.transpose(grid)
  numbers = numbers_of(grid, per_row)
  rows_of = places_of_ones(by_column, per_column)
  return BlockIndex(
    places_of_ones(grid, per_row),
    tf.gather(
      tf.transpose(numbers), tf.minimum(rows_of, rows - 1), batch_dims=1
    ),
  )


def numbers_of(grid: Tensor, per_row: int) -> Tensor:
  """The number of the block at each place of a grid.

  Args:
    grid: bool [rows, columns].
    per_row: active blocks in every row.

  Returns:
    int32 [rows, columns]; where no block is active, some number.
  """
  before = tf.cumsum(tf.cast(grid, tf.int32), 1)
  numbers = before - 1 + per_row * tf.range(grid.shape[0])[:, None]
  return tf.maximum(numbers, 0)


def places_of_ones(mask: Tensor, number: int) -> Tensor:
  """The places of the first ones of each row.

  Args:
    mask: bool [rows, n].
    number: how many ones.

  Returns:
    int32 [rows, number], ascending; n in place of ones that are missing.
  """
  counts = tf.cumsum(tf.cast(mask, tf.int32), 1)
  wanted = tf.tile(tf.range(1, number + 1)[None], [mask.shape[0], 1])
  return tf.searchsorted(counts, wanted)
