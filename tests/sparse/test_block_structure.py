# SPDX-License-Identifier: Apache-2.0
"""Degrees of grids, random grids, and their tables."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigl import mask_ops
from rigl.sparse import block_structure
from rigl.sparse.block_structure import nearest_degrees, random_grid

SIZES = st.integers(1, 24)
SPARSITIES = st.floats(0, 1, exclude_max=True)


@given(SIZES, SIZES, SPARSITIES)
def test_no_possible_sparsity_is_nearer(rows, columns, sparsity):
  degrees = nearest_degrees(rows, columns, sparsity)
  assert degrees.number == columns * degrees.per_column
  possible = [
    1 - per_row / columns
    for per_row in range(1, columns + 1)
    if rows * per_row % columns == 0
  ]
  assert degrees.sparsity in possible
  distances = [abs(sparsity - each) for each in possible]
  assert abs(sparsity - degrees.sparsity) <= min(distances) + 1e-9


@pytest.mark.parametrize(
  ("rows", "columns", "sparsity", "expected"),
  [
    (32, 32, 0.875, (4, 4)),
    (64, 16, 0.75, (4, 16)),
    (32, 32, 0.99, (1, 1)),  # At least one.
    (4, 4, 0.625, (2, 2)),  # Half a block more or less: more.
    (5, 10, 0.9, (2, 1)),  # 0.5, rounded up, at least 1.
    (49, 64, 0.9, (64, 49)),  # No common divisor: dense.
    (1, 1, 0.5, (1, 1)),
  ],
)
def test_degrees_worked_by_hand(rows, columns, sparsity, expected):
  assert nearest_degrees(rows, columns, sparsity)[2:] == expected


@settings(deadline=None)
@given(SIZES, SIZES, SPARSITIES, st.integers(0, 2**40))
def test_random_grids_have_their_degrees(rows, columns, sparsity, seed):
  degrees = nearest_degrees(rows, columns, sparsity)
  grid = random_grid(degrees, seed, "layer")
  np.testing.assert_array_equal(grid.sum(1), degrees.per_row)
  np.testing.assert_array_equal(grid.sum(0), degrees.per_column)
  assert block_structure.degrees_of(grid) == degrees
  np.testing.assert_array_equal(grid, random_grid(degrees, seed, "layer"))


def test_random_grids_use_all_places_about_equally_often():
  degrees = nearest_degrees(8, 8, 0.75)
  grids = [random_grid(degrees, seed, "layer") for seed in range(300)]
  share = np.mean(grids, 0)
  # 0.25 with a standard deviation of 0.025.
  assert share.min() > 0.15 and share.max() < 0.35
  assert len({grid.tobytes() for grid in grids}) == 300
  other = random_grid(degrees, 0, "other")
  assert (other != grids[0]).any()


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, SPARSITIES)
def test_tables_say_the_same_as_the_grid(rows, columns, sparsity):
  degrees = nearest_degrees(rows, columns, sparsity)
  grid = random_grid(degrees, 0, "layer")
  outputs_of, numbers_of = block_structure.index_arrays(grid)
  for i in range(rows):
    assert outputs_of[i].tolist() == np.flatnonzero(grid[i]).tolist()
  for j in range(columns):
    expected = [
      i * degrees.per_row + outputs_of[i].tolist().index(j)
      for i in np.flatnonzero(grid[:, j])
    ]
    assert numbers_of[j].tolist() == expected
  index = mask_ops.index_of(grid, degrees.per_row, degrees.per_column)
  np.testing.assert_array_equal(index.columns, outputs_of)
  np.testing.assert_array_equal(index.numbers, numbers_of)
  np.testing.assert_array_equal(mask_ops.grid_of(outputs_of, columns), grid)


def test_unequal_grids_are_refused():
  grid = np.eye(4, dtype=bool)
  grid[0, 1] = True
  with pytest.raises(ValueError, match=r"got \[1, 2\] in rows and \[1, 2\] in"):
    block_structure.degrees_of(grid)
  with pytest.raises(ValueError, match="at least 1"):
    block_structure.degrees_of(np.zeros((2, 2), bool))


@pytest.mark.parametrize("block", [0, 3, 32, 1.0, True, "8"])
def test_other_block_sizes_are_refused(block):
  with pytest.raises(ValueError, match="`block` must"):
    block_structure.check_block(block, 784, 1000)


def test_allowed_block_sizes_are_named():
  with pytest.raises(ValueError, match="allowed are 1, 2, 4, 8, got 16"):
    block_structure.check_block(16, 784, 1000)
  for block in (1, 2, 4, 8):
    block_structure.check_block(block, 784, 1000)
  assert math.gcd(784, 1000) == 8


def test_shapes_of_the_tables_tell_the_degrees():
  grid = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]] * 2, bool)
  of_rows, of_columns = block_structure.index_arrays(grid)
  found = block_structure.Degrees.of_shapes(of_rows.shape, of_columns.shape)
  assert found == (6, 3, 2, 4) == block_structure.degrees_of(grid)
