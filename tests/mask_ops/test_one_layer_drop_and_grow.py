# SPDX-License-Identifier: Apache-2.0
"""Drop and grow against NumPy oracles and hand-worked masks."""

import numpy as np
import pytest
import tensorflow as tf
from mask_scores import (
  INTEGER_KINDS,
  MEDIUM,
  generator,
  make_scores,
  oracle_drop_and_grow,
  oracle_top_k,
)

from rigl import mask_ops

# One program of each kind for a shape: the fraction is a tensor.
drop_and_grow_graph = tf.function(mask_ops.drop_and_grow, autograph=False)
drop_and_grow_xla = tf.function(
  mask_ops.drop_and_grow, jit_compile=True, autograph=False
)

# Position:      0    1    2    3    4    5    6    7
# Active:        x    x    x              x
# Drop score:   0.9  0.1  0.5  5.0  0.0  0.8  0.0  0.2
# Grow score:   0.0  0.7  0.1  0.6  0.9  0.2  0.3  0.4
# Lowest active first: 1, 2, 5, 0; position 3 is inactive and never kept.
# Best growth first: 4, 1, 3, 7, 6, 5, 2, 0.
WORKED = {
  "drop": [0.9, 0.1, 0.5, 5.0, 0.0, 0.8, 0.0, 0.2],
  "mask": [1, 1, 1, 0, 0, 1, 0, 0],
  "grow": [0.0, 0.7, 0.1, 0.6, 0.9, 0.2, 0.3, 0.4],
}


@pytest.mark.parametrize(
  ("fraction", "mask", "grown"),
  [
    (0.0, [1, 1, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]),
    (0.2, [1, 1, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]),
    # 1 is dropped; 4 grows.
    (0.25, [1, 0, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]),
    (0.49, [1, 0, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]),
    # 1 and 2 are dropped; 4 grows and 1 comes back.
    (0.5, [1, 1, 0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 0, 0, 0]),
    # 1, 2 and 5 are dropped; 4, 1 and 3 grow.
    (0.75, [1, 1, 0, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0, 0, 0]),
    (0.99, [1, 1, 0, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0, 0, 0]),
    # All are dropped; 4, 1, 3 and 7 grow.
    (1.0, [0, 1, 0, 1, 1, 0, 0, 1], [0, 1, 0, 1, 1, 0, 0, 1]),
  ],
)
def test_drop_and_grow_gives_the_hand_worked_masks(fraction, mask, grown):
  result = mask_ops.drop_and_grow(
    tf.constant(WORKED["drop"]),
    tf.constant(WORKED["mask"]) > 0,
    tf.constant(WORKED["grow"]),
    fraction,
  )
  np.testing.assert_array_equal(result.mask, np.array(mask, bool))
  np.testing.assert_array_equal(result.grown, np.array(grown, bool))


def check_drop_and_grow(drop_scores, mask, grow_scores, fraction):
  """Holds the promises and the oracle's answer; returns what was grown."""
  result = mask_ops.drop_and_grow(
    tf.constant(drop_scores),
    tf.constant(mask),
    tf.constant(grow_scores),
    fraction,
  )
  new_mask, grown = result.mask.numpy(), result.grown.numpy()
  kept = new_mask & ~grown
  num_prune = int(np.float32(mask.sum()) * np.float32(fraction))
  assert new_mask.sum() == mask.sum()
  assert grown.sum() == num_prune
  assert not (kept & ~mask).any()
  expected = oracle_drop_and_grow(drop_scores, mask, grow_scores, fraction)
  np.testing.assert_array_equal(new_mask, expected[0])
  np.testing.assert_array_equal(grown, expected[1])
  return kept, grown


@pytest.mark.parametrize("shape", [(2, 3), MEDIUM, (1025,)], ids=str)
@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_number_of_connections_is_conserved(shape, density):
  rng = generator(shape, density)
  for fraction in (0.0, 0.1, 0.3, 0.5, 0.7, 0.999, 1.0):
    mask = rng.random(shape) < density
    drop_scores = np.abs(rng.normal(size=shape)).astype(np.float32)
    grow_scores = np.abs(rng.normal(size=shape)).astype(np.float32)
    kept, grown = check_drop_and_grow(drop_scores, mask, grow_scores, fraction)
    # Without ties, thresholds separate kept from dropped, grown from the rest.
    if kept.any() and (mask & ~kept).any():
      assert drop_scores[kept].min() > drop_scores[mask & ~kept].max()
    if grown.any() and (~kept & ~grown).any():
      assert grow_scores[grown].min() > grow_scores[~kept & ~grown].max()


@pytest.mark.parametrize(
  ("num_ones", "fraction", "num_prune"),
  [
    (90, 0.7, 63),  # 62 in float64, whether 0.7 is rounded to float32 or not.
    (30, 0.7, 21),  # 20 in float64, if 0.7 was rounded to float32.
    (10, 0.29, 2),  # 3 if rounded.
    (199, 0.3, 59),  # 59.7
    (5, 0.1, 0),
    (3, 0.5, 1),
    (216, 1.0, 216),
  ],
)
def test_number_of_grown_is_truncated_in_float32(num_ones, fraction, num_prune):
  assert int(np.float32(num_ones) * np.float32(fraction)) == num_prune
  rng = generator(num_ones)
  mask = rng.permutation(216).reshape(MEDIUM) < num_ones
  scores = rng.normal(size=(2, *MEDIUM)).astype(np.float32)
  for value in (fraction, np.float32(fraction), tf.constant(fraction)):
    for function in (
      mask_ops.drop_and_grow,
      drop_and_grow_graph,
      drop_and_grow_xla,
    ):
      result = function(
        tf.constant(scores[0]),
        tf.constant(mask),
        tf.constant(scores[1]),
        tf.convert_to_tensor(value),
      )
      assert np.count_nonzero(result.grown) == num_prune
      assert np.count_nonzero(result.mask) == num_ones


def test_drop_and_grow_is_the_same_in_eager_graph_and_xla():
  rng = generator("modes")
  for kind in ("normal", "few", "special"):
    drop_scores = make_scores(kind, MEDIUM, np.float32)
    grow_scores = rng.permutation(drop_scores.ravel()).reshape(MEDIUM)
    mask = rng.random(MEDIUM) < 0.4
    for fraction in (0.0, 0.3, 1.0):
      check_drop_and_grow(drop_scores, mask, grow_scores, fraction)
      expected = oracle_drop_and_grow(drop_scores, mask, grow_scores, fraction)
      for function in (drop_and_grow_graph, drop_and_grow_xla):
        result = function(
          tf.constant(drop_scores),
          tf.constant(mask),
          tf.constant(grow_scores),
          tf.constant(fraction),
        )
        np.testing.assert_array_equal(result.mask, expected[0])
        np.testing.assert_array_equal(result.grown, expected[1])


def test_dropped_connection_with_a_high_grow_score_comes_back():
  drop_scores = np.array([[0.1, 3.0, 2.0], [0.0, 0.0, 0.0]], np.float32)
  grow_scores = np.array([[9.0, 8.0, 0.0], [1.0, 2.0, 3.0]], np.float32)
  mask = np.array([[1, 1, 1], [0, 0, 0]], bool)
  kept, grown = check_drop_and_grow(drop_scores, mask, grow_scores, 0.4)
  assert not kept[0, 0]
  assert grown[0, 0]
  assert grown.sum() == 1


def test_zero_fraction_changes_nothing():
  rng = generator("nothing")
  mask = rng.random(MEDIUM) < 0.3
  scores = make_scores("special", MEDIUM, np.float32)
  result = mask_ops.drop_and_grow(scores, mask, scores, 0.0)
  np.testing.assert_array_equal(result.mask, mask)
  assert not np.any(result.grown)


def test_whole_fraction_takes_the_best_grow_scores():
  rng = generator("whole")
  mask = rng.random(MEDIUM) < 0.3
  scores = rng.normal(size=(2, *MEDIUM)).astype(np.float32)
  result = mask_ops.drop_and_grow(scores[0], mask, scores[1], 1.0)
  expected = oracle_top_k(scores[1], int(mask.sum()))
  np.testing.assert_array_equal(result.mask, expected)
  np.testing.assert_array_equal(result.grown, expected)


@pytest.mark.parametrize("full", [False, True], ids=["empty", "full"])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_empty_and_full_masks_stay(full, fraction):
  mask = np.full(MEDIUM, full)
  scores = make_scores("normal", MEDIUM, np.float32)
  check_drop_and_grow(scores, mask, -scores, fraction)
  result = mask_ops.drop_and_grow(scores, mask, -scores, fraction)
  np.testing.assert_array_equal(result.mask, mask)


@pytest.mark.parametrize("kind", ["nan", "equal", "zeros", "special"])
def test_scores_without_an_order_keep_the_count(kind):
  mask = generator(kind).random(MEDIUM) < 0.3
  usual = make_scores("normal", MEDIUM, np.float32)
  scores = make_scores(kind, MEDIUM, np.float32)
  for fraction in (0.3, 0.7, 1.0):
    check_drop_and_grow(usual, mask, scores, fraction)
    check_drop_and_grow(scores, mask, usual, fraction)
    check_drop_and_grow(scores, mask, scores, fraction)


def test_inactive_connections_are_never_kept():
  mask = generator("inactive").random(MEDIUM) < 0.3
  drop_scores = np.where(mask, -np.inf, np.inf).astype(np.float32)
  grow_scores = np.where(mask, 1.0, 0.0).astype(np.float32)
  result = mask_ops.drop_and_grow(drop_scores, mask, grow_scores, 0.3)
  np.testing.assert_array_equal(result.mask, mask)


def test_growth_takes_integer_scores():
  mask = generator("integers").random(MEDIUM) < 0.3
  drop_scores = make_scores("normal", MEDIUM, np.float32)
  for kind in INTEGER_KINDS:
    grow_scores = make_scores(kind, MEDIUM, np.int32)
    check_drop_and_grow(drop_scores, mask, grow_scores, 0.3)
