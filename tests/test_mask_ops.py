"""Mask arithmetic against NumPy oracles, hand-worked masks and statistics."""

import math
import zlib

import numpy as np
import pytest
import tensorflow as tf

from rigl import mask_ops

BFLOAT16 = tf.bfloat16.as_numpy_dtype
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
SMALLEST = {"float32": 2.0**-149, "bfloat16": 2.0**-133, "float16": 2.0**-24}

# XLA compiles one program for each size, so the tests share few shapes.
MEDIUM = (3, 3, 4, 6)
SHAPES = ((), (1,), (2,), (2, 3), MEDIUM, (1023,), (1024,), (1025,), (5000,))
GRAPH_SHAPES = ((), MEDIUM, (1024,), (5000,))
DTYPES = (np.float32, BFLOAT16, np.float16, np.int32)

# One program of each kind for a shape: `k` and the fraction are tensors.
top_k_graph = tf.function(mask_ops.top_k_mask, autograph=False)
top_k_xla = tf.function(mask_ops.top_k_mask, jit_compile=True, autograph=False)
drop_and_grow_graph = tf.function(mask_ops.drop_and_grow, autograph=False)
drop_and_grow_xla = tf.function(
  mask_ops.drop_and_grow, jit_compile=True, autograph=False
)


def generator(*words):
  return np.random.default_rng(zlib.crc32(repr(words).encode()))


# --- Oracles ------------------------------------------------------------------


def oracle_top_k(scores, k, candidates=None):
  """A stable sort of the negated scores; NumPy sorts NaN to the end."""
  flat = np.asarray(scores).astype(np.float64).ravel()
  order = np.argsort(-flat, kind="stable")
  if candidates is not None:
    order = order[np.ravel(candidates)[order]]
  mask = np.zeros(flat.size, bool)
  mask[order[: max(k, 0)]] = True
  return mask.reshape(np.shape(scores))


def oracle_drop_and_grow(drop_scores, mask, grow_scores, fraction):
  num_ones = int(np.sum(mask))
  num_prune = int(np.float32(num_ones) * np.float32(fraction))
  kept = oracle_top_k(drop_scores, num_ones - num_prune, mask)
  grown = oracle_top_k(grow_scores, num_prune, ~kept)
  return kept | grown, grown


def oracle_mix(bits):
  """The published 32-bit finalizer, in Python integers."""
  bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) % 2**32
  bits = ((bits ^ (bits >> 15)) * 0x846CA68B) % 2**32
  return bits ^ (bits >> 16)


def oracle_bits(size, key):
  first, second = (int(word) for word in key)
  return [
    oracle_mix((oracle_mix((i + first) % 2**32) + second) % 2**32)
    for i in range(size)
  ]


# --- Scores -------------------------------------------------------------------


def make_scores(kind, shape, dtype):
  rng = generator(kind, shape, np.dtype(dtype).name)
  if dtype == np.int32:
    return make_integers(kind, shape, rng)
  smallest = SMALLEST[np.dtype(dtype).name]
  values = {
    "normal": lambda: rng.normal(size=shape),
    "negative": lambda: -np.abs(rng.normal(size=shape)) - 0.5,
    "few": lambda: rng.choice([-1.5, 0.0, 0.25, 3.0], size=shape),
    "equal": lambda: np.full(shape, -0.75),
    "zeros": lambda: rng.choice([-0.0, 0.0], size=shape),
    "denormal": lambda: rng.integers(-9, 10, size=shape) * smallest,
    "special": lambda: rng.choice(
      [np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0, -6e4, 6e4],
      size=shape,
    ),
    "nan": lambda: np.full(shape, np.nan),
  }[kind]()
  return np.asarray(values, np.float32).astype(dtype)


def make_integers(kind, shape, rng):
  info = np.iinfo(np.int32)
  values = {
    "normal": lambda: rng.integers(info.min, info.max, size=shape),
    "few": lambda: rng.integers(-1, 2, size=shape),
    "extreme": lambda: rng.choice(
      [info.min, info.min + 2, -1, 0, 1, info.max - 1, info.max], size=shape
    ),
    "lowest": lambda: np.full(shape, info.min),
  }[kind]()
  return np.asarray(values, np.int32)


FLOAT_KINDS = (
  "normal",
  "negative",
  "few",
  "equal",
  "zeros",
  "denormal",
  "special",
  "nan",
)
INTEGER_KINDS = ("normal", "few", "extreme", "lowest")


def some_ks(size):
  return sorted({0, min(1, size), size // 3, max(size - 1, 0), size})


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


# --- top_k_mask ---------------------------------------------------------------


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


@pytest.mark.parametrize("dtype", [tf.float64, tf.int64, tf.uint32, tf.bool])
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
  inner = mask_ops._top_k_flat.experimental_get_tracing_count()
  call("second", 100)
  assert traces == [MEDIUM]
  assert mask_ops._top_k_flat.experimental_get_tracing_count() == inner


# --- drop_and_grow ------------------------------------------------------------

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


# --- Random numbers -----------------------------------------------------------

NUM_BITS = 2**16
KEYS = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (17, 0xDEADBEEF, 25_000)]
RANDOM = (
  mask_ops.random_bits,
  mask_ops.random_uniform,
  mask_ops.random_bell,
)


def bits_of(seed=0, name_hash=0, step=0, size=NUM_BITS):
  key = mask_ops.hash_key(seed, name_hash, step)
  return mask_ops.random_bits(size, key).numpy()


def correlation(a, b):
  a = (a - a.mean(dtype=np.float64)) / a.std(dtype=np.float64)
  b = (b - b.mean(dtype=np.float64)) / b.std(dtype=np.float64)
  return np.mean(a * b)


def assert_uniform_counts(counts, num_sigma=5.0):
  """A chi-square test of equal counts, not too uneven and not too even."""
  expected = np.sum(counts) / len(counts)
  freedom = len(counts) - 1
  statistic = np.sum((counts - expected) ** 2) / expected
  assert abs(statistic - freedom) < num_sigma * math.sqrt(2 * freedom)


def test_random_bits_are_those_of_the_reference():
  for words in ((0, 0), (1, 0), (0, 1), (0xFFFFFFFF, 0x80000001)):
    bits = mask_ops.random_bits(100, tf.constant(words, tf.uint32))
    assert bits.dtype == tf.uint32
    assert bits.numpy().tolist() == oracle_bits(100, words)


@pytest.mark.parametrize("function", RANDOM, ids=lambda f: f.__name__)
def test_random_numbers_are_the_same_in_eager_graph_and_xla(function):
  def run(step):
    return function(1025, mask_ops.hash_key(-3, 2**31 + 5, step))

  step = tf.constant(12_345, tf.int64)
  eager = run(step).numpy()
  for jit_compile in (False, True):
    compiled = tf.function(run, jit_compile=jit_compile, autograph=False)
    np.testing.assert_array_equal(compiled(step).numpy(), eager)


def test_random_mask_is_the_same_in_eager_graph_and_xla():
  def run(step):
    key = mask_ops.hash_key(1, 2, step)
    return mask_ops.random_mask(MEDIUM, 50, key)

  step = tf.constant(3)
  eager = run(step).numpy()
  for jit_compile in (False, True):
    compiled = tf.function(run, jit_compile=jit_compile, autograph=False)
    np.testing.assert_array_equal(compiled(step).numpy(), eager)


def test_random_numbers_of_a_smaller_size_are_a_prefix():
  np.testing.assert_array_equal(bits_of(size=100), bits_of()[:100])


def test_step_may_be_any_integer():
  keys = [
    mask_ops.hash_key(1, 2, step).numpy().tolist()
    for step in (9, np.int64(9), tf.constant(9), tf.constant(9, tf.int64))
  ]
  assert keys == [keys[0]] * 4


@pytest.mark.parametrize("seed", [-1, -(2**31), 2**31, 2**32 + 7, 2**70 + 3])
def test_any_python_integer_is_a_seed(seed):
  key = mask_ops.hash_key(seed, 0xFFFFFFFF, 5)
  assert key.dtype == tf.uint32
  assert key.shape == (2,)
  other = mask_ops.hash_key(seed + 1, 0xFFFFFFFF, 5)
  assert key.numpy().tolist() != other.numpy().tolist()


def test_random_bits_differ_by_seed_name_and_step():
  streams = [bits_of(*key) for key in KEYS]
  for i, first in enumerate(streams):
    for second in streams[:i]:
      # Two independent streams agree at 2**-16 positions on average.
      assert np.count_nonzero(first == second) <= 3
      assert abs(correlation(first, second)) < 5 / math.sqrt(NUM_BITS)
      # Nor are the numbers of one those of the other at other positions: by
      # chance, 1 number is in both.
      assert len(np.intersect1d(first, second)) <= 8


def test_random_bits_differ_by_both_words_of_the_key():
  base = mask_ops.random_bits(NUM_BITS, tf.constant([5, 9], tf.uint32)).numpy()
  for words in ([4, 9], [6, 9], [5, 8], [5, 10], [9, 5]):
    key = tf.constant(words, tf.uint32)
    other = mask_ops.random_bits(NUM_BITS, key).numpy()
    assert np.count_nonzero(base == other) <= 3


def test_both_words_of_the_key_depend_on_seed_name_and_step():
  base = mask_ops.hash_key(3, 4, 5).numpy()
  for other in ((2, 4, 5), (3, 5, 5), (3, 4, 6)):
    assert (mask_ops.hash_key(*other).numpy() != base).all()


def test_keys_of_many_layers_and_steps_are_distinct():
  names = [zlib.crc32(f"block{i}/conv/kernel".encode()) for i in range(15)]
  keys = {
    tuple(mask_ops.hash_key(0, name, step).numpy().tolist())
    for name in names
    for step in range(0, 1000, 100)
  }
  assert len(keys) == 150


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_every_byte_of_the_random_bits_is_uniform(key, shift):
  byte = (bits_of(*key) >> shift) & 0xFF
  assert_uniform_counts(np.bincount(byte, minlength=256))


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_no_bit_is_correlated_with_the_next_positions(key):
  bits = bits_of(*key)
  ones = np.unpackbits(bits.view(np.uint8).reshape(-1, 4), axis=1)
  signs = 2.0 * ones.astype(np.float32) - 1.0
  bound = 5.5 / math.sqrt(NUM_BITS)
  assert np.abs(signs.mean(0)).max() < bound
  for lag in (1, 2, 1024):
    product = tf.matmul(signs[:-lag], signs[lag:], transpose_a=True)
    assert np.abs(product).max() / (NUM_BITS - lag) < bound
    assert abs(correlation(bits[:-lag], bits[lag:])) < bound
  # Pairs of neighbours fill the square evenly.
  high = bits >> 28
  pairs = high[:-1] * 16 + high[1:]
  assert_uniform_counts(np.bincount(pairs, minlength=256))


def test_numbers_of_consecutive_steps_are_uncorrelated():
  streams = [bits_of(step=step, size=2**14) for step in range(20)]
  for first, second in zip(streams, streams[1:], strict=False):
    assert abs(correlation(first, second)) < 5 / math.sqrt(2**14)
  # The first positions over many steps are uniform as well.
  first_numbers = np.concatenate(
    [bits_of(step=step, size=64) >> 28 for step in range(80)]
  )
  assert_uniform_counts(np.bincount(first_numbers, minlength=16))


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_random_uniform_is_uniform_in_the_unit_interval(key):
  key = mask_ops.hash_key(*key)
  numbers = mask_ops.random_uniform(NUM_BITS, key).numpy()
  assert numbers.dtype == np.float32
  assert numbers.min() >= 0.0
  assert numbers.max() < 1.0
  sigma = 1 / math.sqrt(12 * NUM_BITS)
  assert abs(numbers.mean(dtype=np.float64) - 0.5) < 5 * sigma
  # The variance of the squared deviation is 1 / 180.
  variance = np.mean((numbers - 0.5) ** 2, dtype=np.float64)
  assert abs(variance - 1 / 12) < 5 / math.sqrt(180 * NUM_BITS)
  assert_uniform_counts(np.histogram(numbers, 100, (0.0, 1.0))[0])


def test_random_uniform_is_below_one_for_the_highest_bits(monkeypatch):
  monkeypatch.setattr(
    mask_ops,
    "random_bits",
    lambda size, key: tf.constant([0, 0xFF, 0x100, 0xFFFFFFFF], tf.uint32),
  )
  numbers = mask_ops.random_uniform(4, None).numpy().tolist()
  assert numbers == [0.0, 0.0, 2.0**-24, 1.0 - 2.0**-24]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_random_bell_is_nearly_normal(key):
  numbers = mask_ops.random_bell(NUM_BITS, mask_ops.hash_key(*key)).numpy()
  assert numbers.dtype == np.float32
  assert np.abs(numbers).max() <= 3.4642  # 2 * 65535 / 37837.2
  assert abs(numbers.mean(dtype=np.float64)) < 5 / math.sqrt(NUM_BITS)
  assert abs(numbers.std(dtype=np.float64) - 1.0) < 0.01
  # A sum of four uniform numbers: within one sigma 66 %, within two 96 %.
  assert abs(np.mean(np.abs(numbers) < 1.0) - 0.66) < 0.015
  assert abs(np.mean(np.abs(numbers) < 2.0) - 0.96) < 0.01
  assert abs(np.mean(numbers.astype(np.float64) ** 3)) < 0.04
  bound = 5 / math.sqrt(NUM_BITS)
  assert abs(correlation(numbers[:-1], numbers[1:])) < bound


def test_random_mask_has_exactly_the_number_of_ones():
  for shape in SHAPES:
    size = math.prod(shape)
    for k in some_ks(size):
      key = mask_ops.hash_key(k, size, 0)
      mask = mask_ops.random_mask(shape, k, key)
      assert mask.shape == shape
      assert mask.dtype == tf.bool
      assert np.count_nonzero(mask) == k


def test_random_mask_is_a_function_of_its_key():
  masks = [
    mask_ops.random_mask(MEDIUM, 108, mask_ops.hash_key(*key)).numpy()
    for key in [*KEYS, KEYS[0]]
  ]
  np.testing.assert_array_equal(masks[0], masks[-1])
  for i, first in enumerate(masks[:-1]):
    for second in masks[:i]:
      assert 60 < np.count_nonzero(first != second) < 156


def test_random_mask_chooses_positions_and_pairs_evenly():
  num_masks = 900

  @tf.function(autograph=False)
  def many_masks():
    return tf.map_fn(
      lambda step: mask_ops.random_mask(
        [2, 3], 2, mask_ops.hash_key(0, 0, step)
      ),
      tf.range(num_masks),
      fn_output_signature=tf.bool,
    )

  masks = many_masks().numpy().reshape(num_masks, 6)
  assert (masks.sum(1) == 2).all()
  # A position is in a third of the masks, give or take 14.
  assert np.abs(masks.sum(0) - num_masks / 3).max() < 5 * 14.2
  codes = masks @ (1 << np.arange(6))
  pairs = np.bincount(codes, minlength=64)
  pairs = pairs[pairs > 0]
  assert len(pairs) == 15
  assert_uniform_counts(pairs)


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
