# SPDX-License-Identifier: Apache-2.0
"""Drop and grow of layers at once against drop and grow of each layer."""

import zlib

import numpy as np
import pytest
import tensorflow as tf

from rigl import mask_ops

BFLOAT16 = tf.bfloat16.as_numpy_dtype
# Around a row of 1024, and several rows.
SIZES = (1, 2, 7, 1023, 1024, 1025, 2048, 3000, 5000, 1, 4096)
FRACTIONS = (0.0, 0.1, 0.3, 0.7, 0.999, 1.0)
FLOAT_KINDS = ("normal", "few", "equal", "special", "nan", "zeros")
FEW_SIZES = (1, 1025, 3000)  # XLA takes seconds to compile more.
INTEGER_KINDS = ("integers", "few integers", "extreme")


def generator(*words):
  return np.random.default_rng(zlib.crc32(repr(words).encode()))


def oracle_top_k(scores, k, candidates):
  """A stable sort of the negated scores; NumPy sorts NaN to the end."""
  order = np.argsort(-scores.astype(np.float64), kind="stable")
  order = order[candidates[order]]
  mask = np.zeros(scores.size, bool)
  mask[order[:k]] = True
  return mask


def oracle(drop_scores, mask, grow_scores, fraction):
  num_prune = int(np.float32(mask.sum()) * np.float32(fraction))
  kept = oracle_top_k(drop_scores, int(mask.sum()) - num_prune, mask)
  grown = oracle_top_k(grow_scores, num_prune, ~kept)
  return kept | grown, grown


def make_scores(kind, size, index):
  rng = generator(kind, size, index)
  low, high = -(2**31), 2**31 - 1
  special = [np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0, 1e-45]
  values = {
    "normal": lambda: rng.normal(size=size),
    "few": lambda: rng.choice([-1.5, 0.0, 0.25, 3.0], size),
    "equal": lambda: np.full(size, -0.75),
    "special": lambda: rng.choice(special, size),
    "nan": lambda: np.full(size, np.nan),
    "zeros": lambda: rng.choice([-0.0, 0.0], size),
    "integers": lambda: rng.integers(low, high, size),
    "few integers": lambda: rng.integers(-1, 2, size),
    # The lowest equals the one above it, which NumPy's order does not know.
    "extreme": lambda: rng.choice([low + 1, low + 2, -1, 0, high], size),
  }[kind]()
  dtype = np.int32 if kind in INTEGER_KINDS else np.float32
  return np.asarray(values).astype(dtype)


def make_layers(drop_kind, grow_kind, density=0.4, sizes=SIZES):
  layers = []
  for index, size in enumerate(sizes):
    mask = generator("mask", size, index, density).random(size) < density
    drop = make_scores(drop_kind, size, index)
    layers.append((drop, mask, make_scores(grow_kind, size, -index)))
  return layers


BATCHED = mask_ops.MaskEngine("batched")
batch_graph, batch_xla = (
  tf.function(BATCHED.drop_and_grow, jit_compile=jit_compile, autograph=False)
  for jit_compile in (False, True)
)


def check(layers, fraction, function=batch_graph):
  """The oracle's answer in every layer, with its count and dtypes."""
  columns = [[tf.constant(a) for a in c] for c in zip(*layers, strict=True)]
  results = function(*columns, tf.constant(fraction, tf.float32))
  assert len(results) == len(layers)
  for (drop, mask, grow), result in zip(layers, results, strict=True):
    new, grown = result.mask.numpy(), result.grown.numpy()
    assert new.dtype == grown.dtype == bool
    expected = oracle(drop, mask, grow, fraction)
    message = f"{mask.size} values, fraction {fraction}"
    np.testing.assert_array_equal(new, expected[0], message)
    np.testing.assert_array_equal(grown, expected[1], message)
    assert new.sum() == mask.sum()


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("kind", FLOAT_KINDS)
def test_every_layer_is_that_of_a_stable_sort(kind, fraction):
  check(make_layers(kind, "normal"), fraction)
  check(make_layers("normal", kind), fraction)
  check(make_layers(kind, kind), fraction)


@pytest.mark.parametrize("kind", INTEGER_KINDS)
def test_growth_takes_integer_scores(kind):
  for fraction in FRACTIONS:
    check(make_layers("normal", kind), fraction)


@pytest.mark.parametrize("kinds", [("few", "special"), ("normal", "extreme")])
def test_xla_gives_the_same_masks(kinds):
  layers = make_layers(*kinds, sizes=FEW_SIZES)
  for fraction in FRACTIONS:
    check(layers, fraction, batch_xla)


def test_eager_gives_the_same_masks():
  layers = make_layers("few", "special", sizes=(3, 1025, 2048))
  for fraction in (0.0, 0.3, 1.0):
    check(layers, fraction, BATCHED.drop_and_grow)


@pytest.mark.parametrize("density", [0.0, 0.01, 0.99, 1.0])
def test_empty_full_and_nearly_so_masks(density):
  layers = make_layers("few", "few", density)
  for fraction in FRACTIONS:
    check(layers, fraction)


def test_layers_of_different_density_do_not_mix():
  layers = [
    layer
    for i, density in enumerate((0.0, 0.1, 0.5, 0.9, 1.0, 0.02))
    for layer in make_layers("few", "few", density, sizes=(1500 + i,))
  ]
  for fraction in FRACTIONS:
    check(layers, fraction)


def test_results_are_the_bits_of_a_layer_at_a_time():
  for kind in ("normal", "few", "special"):
    layers = make_layers(kind, kind, sizes=FEW_SIZES)
    columns = [[tf.constant(a) for a in c] for c in zip(*layers, strict=True)]
    for fraction in (0.3, 1.0):
      together = batch_graph(*columns, tf.constant(fraction))
      for layer, result in zip(layers, together, strict=True):
        alone = mask_ops.drop_and_grow(*map(tf.constant, layer), fraction)
        np.testing.assert_array_equal(result.mask, alone.mask)
        np.testing.assert_array_equal(result.grown, alone.grown)


@pytest.mark.parametrize("dtype", [BFLOAT16, np.float16])
def test_scores_of_low_precision(dtype):
  layers = [
    (drop.astype(dtype), mask, grow.astype(dtype))
    for drop, mask, grow in make_layers("normal", "few", sizes=FEW_SIZES)
  ]
  for fraction in FRACTIONS:
    check(layers, fraction)


@pytest.mark.parametrize("size", [1, 1024, 5000])
def test_one_layer_alone(size):
  for fraction in (0.0, 0.5, 1.0):
    check(make_layers("few", "few", sizes=(size,)), fraction)


def test_fraction_is_multiplied_in_float32():
  # 0.7 * 90 is 62 in float64.
  mask = np.arange(216) < 90
  scores = generator("scores").normal(size=216).astype(np.float32)
  (result,) = BATCHED.drop_and_grow(
    [scores], [tf.constant(mask)], [tf.constant(scores)], 0.7
  )
  assert np.count_nonzero(result.grown) == 63
