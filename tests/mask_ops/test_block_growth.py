# SPDX-License-Identifier: Apache-2.0
"""Growth of blocks keeps all degrees and finds high scores."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rigl import mask_ops
from rigl.mask_ops import block_growth


def random_case(rng, rows, columns, share):
  """A grid, some of its blocks, and scores."""
  grid = rng.uniform(size=(rows, columns)) < share
  active = np.argwhere(grid)
  number = rng.integers(0, len(active) + 1)
  dropped = active[rng.permutation(len(active))[:number]]
  scores = rng.gamma(2.0, size=(rows, columns)).astype(np.float32)
  return grid, dropped.astype(np.int32), scores


def grow(grid, dropped, scores, number=None, padding=0):
  number = len(dropped) if number is None else number
  pairs = np.concatenate([dropped, np.zeros((padding, 2), np.int32)])
  return mask_ops.grow_blocks(
    *map(tf.constant, (scores, grid, pairs[:, 0], pairs[:, 1], number))
  ).numpy()


@settings(deadline=None, max_examples=60)
@given(
  st.integers(1, 9),
  st.integers(1, 9),
  st.floats(0, 1),
  st.integers(0, 2**32 - 1),
  st.sampled_from(["random", "equal", "huge", "nan"]),
)
def test_degrees_stay_and_kept_blocks_stay(rows, columns, share, seed, kind):
  rng = np.random.default_rng(seed)
  grid, dropped, scores = random_case(rng, rows, columns, share)
  if kind == "equal":
    scores[:] = 1.0
  elif kind == "huge":
    scores = np.minimum(scores * np.float32(1e37), 3e38)
  elif kind == "nan":
    scores[rng.uniform(size=scores.shape) < 0.3] = np.nan
  new = grow(grid, dropped, scores, padding=2)
  np.testing.assert_array_equal(new.sum(0), grid.sum(0))
  np.testing.assert_array_equal(new.sum(1), grid.sum(1))
  kept = grid.copy()
  kept[tuple(dropped.T)] = False
  assert new[kept].all()
  if kind == "equal":
    np.testing.assert_array_equal(new, grid)


def best_total(kept, dropped, scores):
  """The largest sum of scores, by trying all pairings."""
  rows, columns = dropped.T
  best = -np.inf
  for order in itertools.permutations(range(len(rows))):
    cells = list(zip(rows, columns[list(order)], strict=True))
    if len(set(cells)) == len(cells) and not any(kept[c] for c in cells):
      best = max(best, sum(scores[c] for c in cells))
  return best


def test_the_total_is_near_the_best_of_all_pairings():
  shares = []
  for seed in range(25):
    rng = np.random.default_rng(seed)
    grid, dropped, scores = random_case(rng, 6, 6, 0.4)
    dropped = dropped[:6]
    if len(dropped) < 3:
      continue
    kept = grid.copy()
    kept[tuple(dropped.T)] = False
    new = grow(grid, dropped, scores)
    total = scores[new & ~kept].sum()
    assert total >= scores[tuple(dropped.T)].sum() - 1e-5
    shares.append(total / best_total(kept, dropped, scores))
  assert len(shares) >= 15
  assert max(shares) <= 1 + 1e-5
  assert min(shares) > 0.85 and np.mean(shares) > 0.97


def test_an_exchange_worked_by_hand():
  # Rows 0 and 1 lose columns 0 and 1; exchanged they gain 5 + 5 - 1 - 1.
  grid = np.eye(3, dtype=bool)
  scores = np.ones((3, 3), np.float32)
  scores[0, 1] = scores[1, 0] = 5.0
  scores[2] = 100.0  # Its block is not dropped, so it cannot move.
  new = grow(grid, np.array([[0, 0], [1, 1]], np.int32), scores)
  expected = [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
  np.testing.assert_array_equal(new, np.array(expected, bool))


def test_only_the_first_pairs_count():
  grid = np.eye(3, dtype=bool)
  scores = np.float32([[1, 5, 9], [5, 1, 9], [9, 9, 1]])
  pairs = np.array([[0, 0], [1, 1], [2, 2]], np.int32)
  assert grow(grid, pairs, scores, number=2)[2, 2]
  assert grow(grid, pairs, scores, number=1).tolist() == grid.tolist()
  assert grow(grid, pairs, scores, number=0).tolist() == grid.tolist()


def test_large_numbers_of_pairs_are_paired_in_groups(monkeypatch):
  monkeypatch.setattr(block_growth, "_TOGETHER", 4)
  rng = np.random.default_rng(0)
  grid, dropped, scores = random_case(rng, 12, 10, 0.5)
  assert len(dropped) > 12
  new = grow(grid, dropped, scores)
  np.testing.assert_array_equal(new.sum(0), grid.sum(0))
  np.testing.assert_array_equal(new.sum(1), grid.sum(1))
  before, after = scores[grid].sum(), scores[new].sum()
  assert after > 1.05 * before


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs_and_xla_choose_the_same(jit_compile):
  rng = np.random.default_rng(1)
  grid, _, scores = random_case(rng, 10, 8, 0.4)
  dropped = np.argwhere(grid).astype(np.int32)
  arguments = (scores, grid, dropped[:, 0], dropped[:, 1], len(dropped))
  arguments = list(map(tf.constant, arguments))
  compiled = tf.function(mask_ops.grow_blocks, jit_compile=jit_compile)
  eager = mask_ops.grow_blocks(*arguments)
  assert (eager.numpy() != grid).any()
  np.testing.assert_array_equal(compiled(*arguments), eager)
