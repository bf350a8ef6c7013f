# SPDX-License-Identifier: Apache-2.0
"""Which blocks of a kernel are active: sizes, degrees, random grids.

Plain NumPy. A grid is a bool matrix [rows, columns], true where a block is
active. Here all rows of a grid have the same number of active blocks, and all
columns have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rigl.checks import check_integer
from rigl.sparse.sampling import generator_of

# How often about every block of a random grid is exchanged.
_ROUNDS = 32


class Degrees(NamedTuple):
  """How many blocks are active in every row and in every column of a grid.

  Attributes:
    rows: rows of the grid.
    columns: columns of the grid.
    per_row: active blocks in every row.
    per_column: active blocks in every column; rows * per_row is equal to
      columns * per_column.
  """

  rows: int
  columns: int
  per_row: int
  per_column: int

  @classmethod
  def of_shapes(
    cls, outputs_of: Sequence[int], numbers_of: Sequence[int]
  ) -> Degrees:
    """The degrees of the grid that `index_arrays` describes.

    Args:
      outputs_of: shape of the first array, (rows, active blocks in each).
      numbers_of: shape of the second one, (columns, active blocks in each).
    """
    (rows, per_row), (columns, per_column) = outputs_of, numbers_of
    return cls(rows, columns, per_row, per_column)

  @property
  def number(self) -> int:
    """The number of active blocks."""
    return self.rows * self.per_row

  @property
  def sparsity(self) -> float:
    """The share of inactive blocks."""
    return 1.0 - self.per_row / self.columns


def check_block(block: int, inputs: int, outputs: int) -> None:
  """Raises ValueError unless a block size divides both sizes of a kernel."""
  check_integer("block", block, 1)
  common = math.gcd(inputs, outputs)
  if common % block:
    allowed = [size for size in range(1, common + 1) if common % size == 0]
    raise ValueError(
      f"`block` must divide `inputs` = {inputs} and `outputs` = {outputs}: "
      f"allowed are {', '.join(map(str, allowed))}, got {block}."
    )


def nearest_degrees(rows: int, columns: int, sparsity: float) -> Degrees:
  """The degrees whose sparsity is nearest to the wanted one.

  rows * per_row = columns * per_column has the solutions

      per_row = m * columns / g, per_column = m * rows / g, m = 1, ..., g

  with g the greatest common divisor of rows and columns, and the density m / g.
  m is (1 - sparsity) * g, rounded to the nearest integer, halves up, and at
  least 1. Grids of 32 x 32 blocks have 32 densities; of 49 x 64 only 1.

  Args:
    rows: rows of the grid, at least 1.
    columns: columns of the grid, at least 1.
    sparsity: wanted share of inactive blocks, in [0, 1).
  """
  common = math.gcd(rows, columns)
  # The tolerance is for products such as (1 - 0.9) * 5.
  wanted = math.floor((1 - sparsity) * common + 0.5 + 1e-9)
  m = max(wanted, 1)
  return Degrees(rows, columns, m * columns // common, m * rows // common)


def random_grid(degrees: Degrees, seed: int, name: str) -> np.ndarray:
  """A random grid of these degrees.

  Starting with a regular pattern, pairs of active blocks (i, j) and (k, l) are
  exchanged at random for (i, l) and (k, j), which changes no degree.

  Args:
    degrees: those of the grid.
    seed: non-negative seed.
    name: name of the layer; layers of the same sizes get different grids.

  Returns:
    Bool [rows, columns].
  """
  generator = generator_of(seed, f"{name}/blocks")
  number = degrees.number
  # Row by row, the next columns in a circle: as often each.
  rows = generator.permutation(degrees.rows)[
    np.arange(number) // degrees.per_row
  ]
  columns = generator.permutation(degrees.columns)[
    np.arange(number) % degrees.columns
  ]
  grid = np.zeros((degrees.rows, degrees.columns), bool)
  grid[rows, columns] = True
  for _ in range(_ROUNDS):
    one, other = generator.permutation(number)[: number // 2 * 2].reshape(2, -1)
    cells = np.stack(
      [
        rows[one] * degrees.columns + columns[other],
        rows[other] * degrees.columns + columns[one],
      ]
    )
    flat = grid.reshape(-1)
    _, places, counts = np.unique(
      cells, return_inverse=True, return_counts=True
    )
    wanted_once = counts[places.reshape(cells.shape)] == 1
    allowed = np.all(~flat[cells] & wanted_once, axis=0)
    one, other = one[allowed], other[allowed]
    grid[rows[one], columns[one]] = grid[rows[other], columns[other]] = False
    columns[one], columns[other] = columns[other], columns[one]
    grid[rows[one], columns[one]] = grid[rows[other], columns[other]] = True
  return grid


def degrees_of(grid: np.ndarray) -> Degrees:
  """The degrees of a grid.

  Args:
    grid: bool [rows, columns].

  Raises:
    ValueError: if they differ between rows or between columns, or are 0.
  """
  of_rows, of_columns = np.unique(grid.sum(1)), np.unique(grid.sum(0))
  if of_rows.size != 1 or of_columns.size != 1 or not of_rows[0]:
    raise ValueError(
      "`mask` must have the same number of active blocks, at least 1, in all "
      f"rows of blocks and in all columns, got {of_rows.tolist()} in rows and "
      f"{of_columns.tolist()} in columns."
    )
  rows, columns = grid.shape
  return Degrees(rows, columns, int(of_rows[0]), int(of_columns[0]))


def index_arrays(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The tables that `mask_ops.index_of` makes of a grid, as arrays.

  Args:
    grid: bool [rows, columns].

  Returns:
    int32 [rows, blocks per row], and int32 [columns, blocks per column].
  """
  degrees = degrees_of(grid)
  columns = np.nonzero(grid)[1].reshape(degrees.rows, degrees.per_row)
  numbers = np.cumsum(grid).reshape(grid.shape) - 1
  by_column = numbers.T[grid.T].reshape(degrees.columns, degrees.per_column)
  return columns.astype(np.int32), by_column.astype(np.int32)
