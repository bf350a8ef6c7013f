# SPDX-License-Identifier: Apache-2.0
"""The positions of connections: orders, digests and ranges for threads."""

import numpy as np
import pytest

from rigl import sparse_utils
from rigl.sparse import sampling
from rigl.sparse.connections import Connections, digest_of

SHAPES = [(1, 1), (1, 7), (7, 1), (5, 4), (300, 70_000), (2500, 30)]


def random_connections(shape, density, seed=0):
  rng = np.random.default_rng(seed)
  number = int(density * shape[0] * shape[1])
  positions = rng.choice(shape[0] * shape[1], number, replace=False)
  return Connections(shape, np.sort(positions).astype(np.int32))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.001, 0.5, 1.0])
def test_both_orders_hold_every_connection_once(shape, density):
  if shape[0] * shape[1] > 10**7 and density > 0.01:
    return
  connections = random_connections(shape, density)
  positions = connections.positions
  starts = connections.input_starts
  assert starts[0] == 0 and starts[-1] == positions.size
  np.testing.assert_array_equal(
    np.repeat(np.arange(shape[0]), np.diff(starts)), positions // shape[1]
  )
  starts, columns, places = connections.by_output
  assert starts[0, 0] == 0 and starts[-1, -1] == positions.size
  np.testing.assert_array_equal(starts[1:, 0], starts[:-1, -1])
  outputs = np.concatenate(
    [np.repeat(np.arange(shape[1]), np.diff(each)) for each in starts]
  )
  np.testing.assert_array_equal(columns * shape[1] + outputs, positions[places])
  np.testing.assert_array_equal(np.sort(places), np.arange(positions.size))
  for group in starts:
    for first, last in zip(group[:20], group[1:21], strict=False):
      assert np.all(np.diff(columns[first:last]) > 0)
  np.testing.assert_array_equal(
    np.diff(connections.output_starts), np.diff(starts).sum(0)
  )


def test_the_mask_has_ones_at_the_positions():
  connections = Connections((2, 3), np.array([0, 4], np.int32))
  assert connections.mask().tolist() == [
    [True, False, False],
    [False, True, False],
  ]


@pytest.mark.parametrize("positions", [[1, 0], [2, 2], [-1], [6], [0, 7]])
def test_positions_that_are_none_are_refused(positions):
  with pytest.raises(
    ValueError, match="`positions` must be ascending.*2 \\* 3"
  ):
    Connections((2, 3), np.array(positions, np.int32))


def test_kernels_beyond_int32_are_refused():
  with pytest.raises(ValueError, match="at most 2147483647 weights.*65536"):
    Connections((65536, 65536), np.empty(0, np.int32))


def test_digests_differ_between_positions():
  digests = {
    digest_of(np.array(positions, np.int32))
    for positions in ([], [0], [1], [0, 1], [1, 0], [256])
  }
  assert len(digests) == 6
  assert all(0 <= digest < 2**63 for digest in digests)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("density", [0.0, 0.3])
def test_ranges_cover_all_rows_once(parts, density):
  connections = random_connections((50, 20), density)
  ranges = connections.ranges(connections.input_starts, parts)
  assert len(ranges) <= parts
  rows = [row for first, last in ranges for row in range(first, last)]
  assert rows == list(range(50))


def test_ranges_have_equal_work():
  # All connections are in the last tenth of the rows.
  mask = np.zeros((100, 50), bool)
  mask[90:] = True
  positions = np.flatnonzero(mask).astype(np.int32)
  connections = Connections((100, 50), positions)
  starts = connections.input_starts
  work = [
    starts[last] - starts[first]
    for first, last in connections.ranges(starts, 2)
  ]
  assert max(work) <= 0.6 * positions.size


def test_random_positions_are_those_of_the_random_mask():
  positions = sampling.random_positions((30, 20), 0.8, 3, "layer")
  mask = sparse_utils.get_mask_random((30, 20), 0.8, 3, "layer")
  np.testing.assert_array_equal(positions, np.flatnonzero(mask))


@pytest.mark.parametrize("sparsity", [0.995, 0.5, 0.0])
def test_large_kernels_are_sampled_without_a_mask(sparsity, monkeypatch):
  monkeypatch.setattr(sampling, "LARGEST_MASK", 100)
  draws = [
    sampling.random_positions((40, 25), sparsity, seed, name)
    for seed, name in [(0, "a"), (0, "a"), (1, "a"), (0, "b")]
  ]
  for positions in draws:
    assert positions.size == 1000 - int(sparsity * 1000)
    assert np.unique(positions).size == positions.size
    Connections((40, 25), positions)
  np.testing.assert_array_equal(draws[0], draws[1])
  if sparsity:
    assert set(draws[0]) != set(draws[2]) and set(draws[0]) != set(draws[3])


@pytest.mark.parametrize("sparsity", [0.75, 0.25])
def test_sampled_positions_are_uniform(sparsity, monkeypatch):
  monkeypatch.setattr(sampling, "LARGEST_MASK", 0)
  counts = np.zeros(20)
  for seed in range(400):
    counts[sampling.random_positions((4, 5), sparsity, seed, "layer")] += 1
  # Binomial: standard deviation 8.7.
  assert np.abs(counts - 400 * (1 - sparsity)).max() < 35


def test_a_large_dense_kernel_takes_no_more_draws(monkeypatch):
  """To draw all of n numbers takes n log(n) draws, which filled the memory."""
  monkeypatch.setattr(sampling, "LARGEST_MASK", 0)
  made, draws = sampling.generator_of, []

  class Counting:
    def __init__(self, seed, name):
      self._generator = made(seed, name)

    def integers(self, high, size):
      draws.append(size)
      return self._generator.integers(high, size=size)

  monkeypatch.setattr(sampling, "generator_of", Counting)
  for sparsity in (0.0, 0.001, 0.1, 0.499):
    draws.clear()
    positions = sampling.random_positions((500, 400), sparsity, 0, "layer")
    assert positions.size == 200_000 - int(sparsity * 200_000)
    assert sum(draws) < 250_000
