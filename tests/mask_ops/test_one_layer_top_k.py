# SPDX-License-Identifier: Apache-2.0
"""Masks of the highest scores against NumPy oracles and by hand."""

import numpy as np
import pytest
import tensorflow as tf
from mask_scores import (
  BFLOAT16,
  FLOAT_KINDS,
  INTEGER_KINDS,
  MEDIUM,
  SHAPES,
  generator,
  make_scores,
  oracle_top_k,
  some_ks,
)

from rigl import mask_ops
from rigl.mask_ops import engine

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
GRAPH_SHAPES = ((), MEDIUM, (1024,), (5000,))
DTYPES = (np.float32, BFLOAT16, np.float16, np.int32)

# One program of each kind for a shape: `k` is a tensor.
top_k_graph = tf.function(mask_ops.top_k_mask, autograph=False)
top_k_xla = tf.function(mask_ops.top_k_mask, jit_compile=True, autograph=False)


def check_top_k(scores, k, candidates=None):
  """Eager, graph and XLA give the oracle's mask, bit for bit.

  The graph, too, compiles its own program: some shapes go without, for speed.
  """
  expected = oracle_top_k(scores, k, candidates)
  args = (tf.constant(scores), tf.constant(k))
  if candidates is not None:
    args += (tf.constant(candidates),)
  functions = [mask_ops.top_k_mask, top_k_xla]
  if np.shape(scores) in GRAPH_SHAPES:
    functions.append(top_k_graph)
  for function in functions:
    mask = function(*args)
    assert mask.dtype == tf.bool
    assert mask.shape == np.shape(scores)
    np.testing.assert_array_equal(mask.numpy(), expected, f"k={k}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_top_k_is_a_stable_sort_for_every_shape(shape):
  for kind in ("normal", "few", "special"):
    scores = make_scores(kind, shape, np.float32)
    for k in some_ks(scores.size):
      check_top_k(scores, k)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_top_k_is_a_stable_sort_for_every_kind_of_score(dtype):
  for kind in INTEGER_KINDS if dtype == np.int32 else FLOAT_KINDS:
    scores = make_scores(kind, MEDIUM, dtype)
    for k in some_ks(scores.size):
      check_top_k(scores, k)


def test_ties_are_taken_from_the_front():
  scores = tf.constant([[2.0, 1.0, 2.0], [1.0, 2.0, 1.0]])
  for k, expected in {
    1: [[1, 0, 0], [0, 0, 0]],
    2: [[1, 0, 1], [0, 0, 0]],
    3: [[1, 0, 1], [0, 1, 0]],
    4: [[1, 1, 1], [0, 1, 0]],
    5: [[1, 1, 1], [1, 1, 0]],
  }.items():
    mask = mask_ops.top_k_mask(scores, k)
    np.testing.assert_array_equal(mask, np.array(expected, bool))


@pytest.mark.parametrize("k", [1, 1022, 1023, 1024, 1025, 2048, 2049, 4999])
def test_ties_are_taken_from_the_front_across_rows_of_the_count(k):
  mask = mask_ops.top_k_mask(tf.zeros([5000]), k)
  np.testing.assert_array_equal(mask, np.arange(5000) < k)


def test_last_tie_is_found_after_rows_without_ties():
  scores = np.full([5000], -1.0, np.float32)
  scores[[7, 3000, 3001, 4999]] = 0.0
  scores[2500] = 1.0
  for k, last in ((1, 2500), (2, 7), (3, 3000), (4, 3001), (5, 4999), (6, 0)):
    mask = mask_ops.top_k_mask(tf.constant(scores), k).numpy()
    np.testing.assert_array_equal(mask, oracle_top_k(scores, k))
    assert mask[last]


def test_zeros_of_both_signs_are_equal():
  scores = tf.constant([-0.0, 0.0, -0.0, 0.0, -1.0, 2.0])
  mask = mask_ops.top_k_mask(scores, 3)
  np.testing.assert_array_equal(mask, [True, True, False, False, False, True])


def test_special_values_have_the_documented_order():
  negative_nan = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
  best_first = [np.inf, 3.4e38, 1e-45, -1e-45, -3.4e38, -np.inf]
  scores = np.array(best_first[::-1], np.float32)
  for k in range(7):
    mask = mask_ops.top_k_mask(tf.constant(scores), k)
    np.testing.assert_array_equal(mask, np.arange(6) >= 6 - k)
  scores = np.array(
    [np.nan, -np.inf, negative_nan, np.inf, -np.nan, 0.0], np.float32
  )
  for k, expected in {
    1: [0, 0, 0, 1, 0, 0],
    2: [0, 0, 0, 1, 0, 1],
    3: [0, 1, 0, 1, 0, 1],
    4: [1, 1, 0, 1, 0, 1],
    5: [1, 1, 1, 1, 0, 1],
  }.items():
    mask = mask_ops.top_k_mask(tf.constant(scores), k)
    np.testing.assert_array_equal(mask, np.array(expected, bool))


def test_integer_scores_cover_the_whole_range():
  scores = tf.constant([0, INT_MIN, INT_MAX, -1, INT_MAX - 1, 1], tf.int32)
  best_first = [2, 4, 5, 0, 3, 1]
  for k in range(7):
    mask = mask_ops.top_k_mask(scores, k)
    assert set(np.flatnonzero(mask)) == set(best_first[:k])


def test_number_of_ones_is_exact_for_ten_million_scores():
  rng = generator("large")
  scores = rng.standard_normal(10**7, np.float32)
  k = 3_333_333
  mask = mask_ops.top_k_mask(tf.constant(scores), k).numpy()
  assert np.count_nonzero(mask) == k
  assert scores[mask].min() >= scores[~mask].max()


@pytest.mark.parametrize("kind", ["normal", "few", "special", "nan"])
def test_only_candidates_are_taken(kind):
  scores = make_scores(kind, MEDIUM, np.float32)
  candidates = generator(kind).random(MEDIUM) < 0.4
  for k in some_ks(int(candidates.sum())):
    check_top_k(scores, k, candidates)


@pytest.mark.parametrize("kind", ["normal", "few", "special", "nan"])
def test_only_candidates_are_taken_across_rows_of_the_count(kind):
  scores = make_scores(kind, (1025,), np.float32)
  candidates = generator(kind).random(1025) < 0.4
  candidates[0], candidates[-1] = False, True
  for k in some_ks(int(candidates.sum())):
    mask = mask_ops.top_k_mask(scores, k, candidates)
    np.testing.assert_array_equal(mask, oracle_top_k(scores, k, candidates))


def test_lowest_scores_of_candidates_come_before_other_positions():
  candidates = tf.constant([[False, True, False], [True, True, False]])
  nan, low = np.nan, INT_MIN
  for scores in (
    tf.constant([[nan, nan, 1.0], [nan, nan, np.inf]]),
    tf.constant([[low, low, 1], [low, low, INT_MAX]]),
  ):
    for k, positions in ((1, {1}), (2, {1, 3}), (3, {1, 3, 4})):
      mask = mask_ops.top_k_mask(scores, k, candidates)
      assert set(np.flatnonzero(mask)) == positions


@pytest.mark.parametrize("k", [-1, INT_MIN, 217, INT_MAX])
def test_k_is_clipped_to_the_number_of_candidates(k):
  scores = make_scores("special", MEDIUM, np.float32)
  everything = np.ones(MEDIUM, bool)
  candidates = generator("clipped").random(MEDIUM) < 0.3
  for allowed in (everything, candidates, ~everything):
    mask = mask_ops.top_k_mask(scores, k, candidates=tf.constant(allowed))
    np.testing.assert_array_equal(mask, allowed & (k > 0))
  mask = mask_ops.top_k_mask(scores, k)
  np.testing.assert_array_equal(mask, everything & (k > 0))


def test_no_candidates_give_an_empty_mask():
  check_top_k(
    make_scores("normal", MEDIUM, np.float32), 5, np.zeros(MEDIUM, bool)
  )


def test_empty_tensor_gives_an_empty_mask():
  mask = mask_ops.top_k_mask(tf.zeros([3, 0, 2]), 1)
  assert mask.shape == (3, 0, 2)
  assert mask.dtype == tf.bool


@pytest.mark.parametrize(
  "k",
  [2, np.int64(2), tf.constant(2), tf.constant(2, tf.int64)],
  ids=["int", "numpy", "int32", "int64"],
)
def test_k_may_be_any_integer(k):
  scores = tf.constant([[1.0, 5.0, 3.0], [2.0, 0.0, 4.0]])
  expected = np.array([[0, 1, 0], [0, 0, 1]], bool)
  np.testing.assert_array_equal(mask_ops.top_k_mask(scores, k), expected)
  np.testing.assert_array_equal(top_k_graph(scores, k), expected)


@pytest.mark.parametrize("shape", [None, [None], [3, None]], ids=str)
def test_unknown_shape_is_refused(shape):
  @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
  def run(scores):
    return mask_ops.top_k_mask(scores, 1)

  with pytest.raises(ValueError, match="`scores` must have a static shape"):
    run.get_concrete_function()


@pytest.mark.parametrize("dtype", [tf.complex64, tf.int64, tf.uint32, tf.bool])
def test_other_dtypes_are_refused(dtype):
  scores = tf.cast(tf.ones([2, 3]), dtype)
  with pytest.raises(ValueError, match=f"got {dtype.name}"):
    mask_ops.top_k_mask(scores, 1)


def test_second_call_does_not_retrace():
  traces = []

  @tf.function(autograph=False)
  def run(scores, k, candidates):
    traces.append(scores.shape)
    return (
      mask_ops.top_k_mask(scores, k),
      mask_ops.drop_and_grow(scores, candidates, -scores, 0.3).mask,
    )

  def call(seed, k):
    rng = generator(seed)
    scores = tf.constant(rng.normal(size=MEDIUM), tf.float32)
    candidates = tf.constant(rng.random(MEDIUM) < 0.5)
    run(scores, tf.constant(k), candidates)
    mask_ops.top_k_mask(scores, k)
    mask_ops.top_k_mask(scores, tf.constant(k), candidates)
    mask_ops.drop_and_grow(scores, candidates, -scores, k / 216)

  call("first", 5)
  inner = engine.top_k_of_layer.experimental_get_tracing_count()
  call("second", 100)
  assert traces == [MEDIUM]
  assert engine.top_k_of_layer.experimental_get_tracing_count() == inner


def test_count_ones_is_an_int32_scalar():
  for mask, number in (
    (tf.zeros([0], tf.bool), 0),
    (tf.constant([[True, False], [True, True]]), 3),
    (tf.ones(MEDIUM, tf.bool), 216),
  ):
    count = mask_ops.count_ones(mask)
    assert count.dtype == tf.int32
    assert count.shape == ()
    assert int(count) == number
