"""NumPy's masks are those of `mask_ops`, bit for bit."""

import numpy as np
import pytest
import tensorflow as tf

from rigl import host_masks, mask_ops

SIZE = 3000  # One shape, which XLA compiles once.


def scores_of(kind, seed):
  rng = np.random.default_rng(seed)
  if kind == "normal":
    return rng.normal(size=SIZE).astype(np.float32)
  if kind == "integers":
    return rng.integers(-(2**31), 2**31, SIZE).astype(np.int32)
  found = rng.integers(-2, 3, SIZE).astype(np.float32)
  if kind == "odd":
    found[:40] = [np.nan, np.inf, -np.inf, -0.0] * 10
  return found


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.77, 1.0])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["normal", "ties", "odd", "integers"])
def test_masks_are_those_of_mask_ops(kind, density, fraction):
  drop, grow = np.abs(scores_of("ties", 1)), scores_of(kind, 2)
  mask = np.random.default_rng(3).uniform(size=SIZE) < density
  expected = mask_ops.drop_and_grow(drop, mask, grow, fraction)
  keys = [mask_ops.order_keys(tf.constant(s)).numpy() for s in (drop, grow)]
  found, grown = host_masks.drop_and_grow(keys[0], mask, keys[1], fraction)
  np.testing.assert_array_equal(found, expected.mask)
  np.testing.assert_array_equal(grown, expected.grown)


@pytest.mark.parametrize("k", [0, 1, 1499, 2999, 3000])
@pytest.mark.parametrize("kind", ["normal", "ties", "odd", "integers"])
def test_top_k_is_that_of_mask_ops(kind, k):
  scores = scores_of(kind, 4)
  keys = mask_ops.order_keys(tf.constant(scores)).numpy()
  expected = mask_ops.top_k_mask(scores, k)
  np.testing.assert_array_equal(host_masks.top_k(keys, k), expected)


def test_the_lowest_key_is_that_of_mask_ops():
  assert host_masks.LOWEST_KEY == mask_ops.LOWEST_KEY
