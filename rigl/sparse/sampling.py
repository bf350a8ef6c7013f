# SPDX-License-Identifier: Apache-2.0
"""Random positions of active connections, also in kernels beyond memory."""

from __future__ import annotations

import zlib

import numpy as np

from rigl import sparse_utils

# Up to this size a mask is made; above, its ones are drawn one by one, or its
# zeros where they are fewer.
LARGEST_MASK = 2**26


def random_positions(
  shape: tuple[int, int], sparsity: float, seed: int, name: str
) -> np.ndarray:
  """The positions of the connections of a random mask.

  Args:
    shape: (inputs, outputs) of the kernel.
    sparsity: share of inactive connections, in [0, 1).
    seed: non-negative seed.
    name: name of the layer; layers of the same shape get different masks.

  Returns:
    int32 [n], ascending, with n = size - floor(sparsity * size). Those of
    `sparse_utils.get_mask_random` for kernels of at most `LARGEST_MASK`
    weights. Every set of n positions is equally likely.
  """
  size = shape[0] * shape[1]
  if size <= LARGEST_MASK:
    mask = sparse_utils.get_mask_random(shape, sparsity, seed, name)
    return np.flatnonzero(mask).astype(np.int32)
  zeros = sparse_utils.get_n_zeros(size, sparsity)
  generator = generator_of(seed, name)
  if zeros >= size - zeros:
    return _random_set(generator, size, size - zeros).astype(np.int32)
  # Of a dense kernel the others are fewer. The last missing numbers of a set of
  # all would take many draws.
  active = np.ones(size, bool)
  active[_random_set(generator, size, zeros)] = False
  return np.flatnonzero(active).astype(np.int32)


def _random_set(
  generator: np.random.Generator, size: int, wanted: int
) -> np.ndarray:
  """Distinct numbers below `size`, ascending; every set is equally likely.

  Args:
    generator: of the random numbers.
    size: the numbers to choose from; twice `wanted` or more.
    wanted: how many numbers.
  """
  if not wanted:
    return np.empty(0, np.int64)
  # The first distinct numbers of a sequence of independent ones: a uniform set.
  drawn = np.empty(0, np.int64)
  while True:
    missing = int(1.1 * wanted) + 16
    drawn = np.concatenate([drawn, generator.integers(size, size=missing)])
    found, first = np.unique(drawn, return_index=True)
    if found.size >= wanted:
      earliest = np.argpartition(first, wanted - 1)[:wanted]
      return np.sort(found[earliest])


def random_values(
  number: int, stddev: float, seed: int, name: str
) -> np.ndarray:
  """Normally distributed weights, independent of the positions.

  Args:
    number: how many.
    stddev: their standard deviation.
    seed: non-negative seed.
    name: name of the layer.

  Returns:
    float32 [number].
  """
  normal = generator_of(seed, f"{name}/values").standard_normal(
    number, np.float32
  )
  return normal * np.float32(stddev)


def generator_of(seed: int, name: str) -> np.random.Generator:
  """Random numbers that are a function of a seed and a name."""
  sequence = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
  return np.random.Generator(np.random.Philox(sequence))
