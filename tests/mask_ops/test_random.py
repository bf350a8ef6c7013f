# SPDX-License-Identifier: Apache-2.0
"""Random numbers and masks against Python oracles and statistics."""

import math
import re
import zlib

import numpy as np
import pytest
import tensorflow as tf
from mask_scores import MEDIUM, SHAPES, some_ks

from rigl import mask_ops


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


NUM_BITS = 2**16
KEYS = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (17, 0xDEADBEEF, 25_000)]
RANDOM = (
  mask_ops.random_bits,
  mask_ops.random_uniform,
  mask_ops.approximate_normal,
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
    bits = mask_ops.random_bits(2500, tf.constant(words, tf.uint32))
    assert bits.dtype == tf.uint32
    assert bits.numpy().tolist() == oracle_bits(2500, words)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025])
def test_sizes_around_a_row_have_the_bits_of_the_reference(size):
  bits = mask_ops.random_bits(size, tf.constant([3, 4], tf.uint32))
  assert bits.numpy().tolist() == oracle_bits(size, (3, 4))


def test_no_constant_of_the_size_of_a_layer_is_in_the_program():
  bits = tf.function(
    lambda key: mask_ops.random_bits(100_000, key), jit_compile=True
  )
  key = tf.constant([1, 2], tf.uint32)
  text = bits.experimental_get_compiler_ir(key)(stage="hlo")
  constants = re.findall(r"\[(\d+)[^]]*\]\S* constant\(", text)
  assert max(map(int, constants)) <= 1024


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
    mask_ops.random,
    "random_bits",
    lambda *_: tf.constant([0, 0xFF, 0x100, 0xFFFFFFFF], tf.uint32),
  )
  numbers = mask_ops.random_uniform(4, None).numpy().tolist()
  assert numbers == [0.0, 0.0, 2.0**-24, 1.0 - 2.0**-24]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_approximate_normal_is_nearly_normal(key):
  numbers = mask_ops.approximate_normal(
    NUM_BITS, mask_ops.hash_key(*key)
  ).numpy()
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


@pytest.mark.parametrize(
  "function",
  [mask_ops.random_bits, mask_ops.random_uniform, mask_ops.approximate_normal],
)
def test_positions_give_the_numbers_of_these_indices(function):
  key = tf.constant([4_000_000_000, 7], tf.uint32)
  positions = np.array([0, 3, 1023, 1024, 4999], np.int32)
  everything = function(5000, key).numpy()
  some = function(positions.size, key, positions).numpy()
  np.testing.assert_array_equal(some, everything[positions])
