# SPDX-License-Identifier: Apache-2.0
"""The masks that NumPy finds are those of XLA, bit for bit."""

import numpy as np
import pytest
import tensorflow as tf

from rigl import mask_ops
from rigl.mask_ops import topk_numpy

SIZE = 3000  # One shape, which XLA compiles once.
ENGINE = mask_ops.MaskEngine("numpy")


def drop_and_grow(drop_scores, mask, grow_scores, fraction):
  return ENGINE.drop_and_grow([drop_scores], [mask], [grow_scores], fraction)[0]


drop_and_grow_graph = tf.function(drop_and_grow, autograph=False)


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
def test_drop_and_grow_is_that_of_xla(kind, density, fraction):
  drop, grow = np.abs(scores_of("ties", 1)), scores_of(kind, 2)
  mask = np.random.default_rng(3).uniform(size=SIZE) < density
  expected = mask_ops.drop_and_grow(drop, mask, grow, fraction)
  layer = [tf.constant(each) for each in (drop, mask, grow)]
  for function in (drop_and_grow, drop_and_grow_graph):
    found = function(*layer, tf.constant(fraction))
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.grown, expected.grown)


@pytest.mark.parametrize("k", [0, 1, 1499, 2999, 3000])
@pytest.mark.parametrize("kind", ["normal", "ties", "odd", "integers"])
def test_top_k_is_that_of_xla(kind, k):
  scores = scores_of(kind, 4)
  keys = mask_ops.order_keys(tf.constant(scores)).numpy()
  expected = mask_ops.top_k_mask(scores, k)
  np.testing.assert_array_equal(topk_numpy.top_k(keys, k), expected)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("kind", ["normal", "ties", "odd", "integers"])
def test_only_candidates_are_chosen(kind, density):
  scores = tf.constant(scores_of(kind, 5))
  candidates = np.random.default_rng(6).uniform(size=SIZE) < density
  for k in (0, 7, 250, 10**6):
    expected = mask_ops.top_k_mask(scores, k, candidates)
    (mask,) = ENGINE.top_k([scores], [k], [tf.constant(candidates)])
    np.testing.assert_array_equal(mask, expected)
