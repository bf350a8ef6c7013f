# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rigl.compression import compress_fully_connected


def mask_of(shape, *connections):
  mask = np.zeros(shape, bool)
  for source, target in connections:
    mask[source, target] = True
  return mask


def surviving_units(masks):
  """Paths through the graph, unit by unit: the oracle.

  A unit survives if it can be reached from an input and an output can be
  reached from it; outputs always do.
  """
  last = len(masks)

  def reaches_output(layer, unit):
    if layer == last:
      return True
    targets = np.flatnonzero(masks[layer][unit])
    return any(reaches_output(layer + 1, target) for target in targets)

  def is_reached(layer, unit):
    if layer == 0:
      return True
    sources = np.flatnonzero(masks[layer - 1][:, unit])
    return any(is_reached(layer - 1, source) for source in sources)

  widths = [len(masks[0]), *(mask.shape[1] for mask in masks)]
  return [
    [
      unit
      for unit in range(width)
      if layer == last
      or (is_reached(layer, unit) and reaches_output(layer, unit))
    ]
    for layer, width in enumerate(widths)
  ]


def test_dense_network_stays_as_it_is():
  result = compress_fully_connected([np.ones([5, 4]), np.ones([4, 3])])
  assert result.sizes == [5, 4, 3]
  assert result.sparsities == [0.0, 0.0]
  assert result.global_sparsity == 0.0


def test_hand_worked_network():
  # Input 2 has no outgoing connection, unit 1 no incoming one, unit 2 no
  # outgoing one: inputs 0 and 1, unit 0 and 3, and both outputs stay.
  first = mask_of([3, 4], (0, 0), (1, 0), (1, 3), (1, 2))
  second = mask_of([4, 2], (0, 0), (1, 0), (1, 1), (3, 1))
  result = compress_fully_connected([first, second])
  assert result.sizes == [2, 2, 2]
  assert result.sparsities == [1 / 4, 2 / 4]
  assert result.global_sparsity == 3 / 8


def test_one_removal_makes_others_dead_towards_the_input():
  # Unit 1 of layer 3 leads nowhere, so neither does the chain before it.
  first = mask_of([2, 2], (0, 0), (1, 1))
  second = mask_of([2, 2], (0, 0), (1, 1))
  third = mask_of([2, 2], (0, 0), (1, 1))
  fourth = mask_of([2, 1], (0, 0))
  result = compress_fully_connected([first, second, third, fourth])
  assert result.sizes == [1, 1, 1, 1, 1]
  assert result.global_sparsity == 0.0


def test_one_removal_makes_others_dead_towards_the_output():
  # Unit 1 of layer 1 gets nothing, so neither does the chain after it.
  first = mask_of([2, 2], (0, 0), (1, 0))
  second = mask_of([2, 2], (0, 0), (1, 1))
  third = mask_of([2, 2], (0, 0), (1, 1))
  fourth = np.ones([2, 1])
  result = compress_fully_connected([first, second, third, fourth])
  assert result.sizes == [2, 1, 1, 1, 1]


def test_dead_outputs_are_kept():
  result = compress_fully_connected([mask_of([3, 4], (0, 1))])
  assert result.sizes == [1, 4]
  assert result.sparsities == [3 / 4]


@pytest.mark.parametrize("empty", [0, 1])
def test_everything_dead_leaves_empty_kernels_of_sparsity_zero(empty):
  masks = [np.ones([6, 5]), np.ones([5, 3])]
  masks[empty] = np.zeros_like(masks[empty])
  result = compress_fully_connected(masks)
  assert result.sizes == [0, 0, 3]
  assert result.sparsities == [0.0, 0.0]
  assert result.global_sparsity == 0.0


@pytest.mark.parametrize("seed", range(30))
def test_equals_graph_reachability_on_random_masks(seed):
  rng = np.random.default_rng(seed)
  widths = rng.integers(1, 9, size=rng.integers(2, 6))
  density = rng.uniform(0.05, 0.6)
  masks = [
    rng.random(shape) < density
    for shape in zip(widths, widths[1:], strict=False)
  ]
  alive = surviving_units(masks)
  kernels = [
    mask[np.ix_(inputs, outputs)]
    for mask, inputs, outputs in zip(masks, alive, alive[1:], strict=False)
  ]
  result = compress_fully_connected(masks)
  assert result.sizes == [len(units) for units in alive]
  expected = [1 - kernel.mean() if kernel.size else 0.0 for kernel in kernels]
  np.testing.assert_allclose(result.sparsities, expected, atol=1e-12)
  ones = sum(kernel.sum() for kernel in kernels)
  size = sum(kernel.size for kernel in kernels)
  assert result.global_sparsity == pytest.approx(1 - ones / size if size else 0)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.int64])
def test_masks_of_any_dtype_give_the_same_and_are_not_modified(dtype):
  rng = np.random.default_rng(0)
  originals = [rng.random([20, 10]) < 0.1, rng.random([10, 4]) < 0.1]
  masks = [mask.astype(dtype) for mask in originals]
  for mask in masks:
    mask.flags.writeable = False
  result = compress_fully_connected(masks)
  assert result == compress_fully_connected(originals)
  for mask, original in zip(masks, originals, strict=True):
    np.testing.assert_array_equal(mask, original)


@pytest.mark.parametrize(
  ("masks", "message"),
  [
    ([], "`masks` must hold at least one"),
    ([np.ones([3])], r"`masks\[0\]` must have shape \[in, out\], got \(3,\)"),
    ([np.ones([3, 4]), np.ones([5, 2])], r"`masks\[1\]` .* 4, .*\(5, 2\)"),
  ],
)
def test_masks_that_do_not_fit_are_refused(masks, message):
  with pytest.raises(ValueError, match=message):
    compress_fully_connected(masks)
