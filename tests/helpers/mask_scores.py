# SPDX-License-Identifier: Apache-2.0
"""Scores and NumPy oracles for the tests of mask arithmetic."""

import zlib

import numpy as np
import tensorflow as tf

BFLOAT16 = tf.bfloat16.as_numpy_dtype
SMALLEST = {"float32": 2.0**-149, "bfloat16": 2.0**-133, "float16": 2.0**-24}

# XLA compiles one program for each size, so the tests share few shapes.
MEDIUM = (3, 3, 4, 6)
SHAPES = ((), (1,), (2,), (2, 3), MEDIUM, (1023,), (1024,), (1025,), (5000,))


def generator(*words):
  return np.random.default_rng(zlib.crc32(repr(words).encode()))


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
