# SPDX-License-Identifier: Apache-2.0
"""Layers so small that rounding would leave nothing: one connection stays."""

import warnings

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import METHODS

from rigl import sparse_utils

SHAPES = {"tiny": (10, 4), "one": (1, 1), "row": (1, 7), "large": (30, 20)}


def _kernels(shapes):
  rng = np.random.default_rng(0)
  return {
    name: tf.Variable(
      rng.normal(size=shape).astype(np.float32), name=f"{name}/w"
    )
    for name, shape in shapes.items()
  }


def _train(optimizer, kernels, n=12):
  rng = np.random.default_rng(1)
  for _ in range(n):
    optimizer.apply_gradients(
      [
        (tf.constant(rng.normal(size=k.shape), tf.float32), k)
        for k in kernels.values()
      ]
    )


def _ones(optimizer):
  return {
    layer.name: int(np.count_nonzero(layer.mask)) for layer in optimizer.layers
  }


@pytest.mark.parametrize("sparsity", [0.9, 0.99, 0.9999, 1 - 2**-53])
@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_every_method_keeps_a_connection_per_layer(name, sparsity):
  kernels = _kernels(SHAPES)
  options = {
    "snip": {"default_sparsity": sparsity},
    "dnw": {"default_sparsity": sparsity},
    "top_kast": {"default_sparsity": sparsity},
    "prune": {"target_sparsity": sparsity, "end_step": 8, "frequency": 1},
    "granet": {
      "target_sparsity": sparsity,
      "end_step": 4,
      "frequency": 1,
      "grow_batches": 1,
    },
    "mest": {"end_step": 6, "frequency": 2},
    "chase": {"end_step": 6, "frequency": 2},
  }.get(name, {})
  optimizer = sparse_methods.make(name, **options)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    if METHODS[name].start == "sparse":
      optimizer.sparsify(kernels, "random", sparsity)
    else:
      optimizer.create_masks(kernels)
    _train(optimizer, kernels)
  ones = _ones(optimizer)
  assert min(ones.values()) >= 1
  size = 600
  expected = size - sparse_utils.get_n_zeros(size, sparsity)
  if name == "prune":  # It rounds to the nearest.
    expected = round(size * (1 - sparsity))
  if name == "granet":  # So does it, over all layers at once.
    total = sum(int(np.prod(shape)) for shape in SHAPES.values())
    expected = max(round(total * (1 - sparsity)), len(SHAPES))
    assert sum(ones.values()) == expected
  elif "across_layers" in METHODS[name].arguments:
    assert sum(ones.values()) == sum(
      max(n - sparse_utils.get_n_zeros(n, sparsity), 1)
      for n in (int(np.prod(shape)) for shape in SHAPES.values())
    )
  else:
    assert ones["large"] == max(expected, 1)
  for layer in optimizer.layers:
    assert not layer.kernel.numpy()[~layer.mask.numpy()].any()


def test_pruning_warns_where_rounding_decides_and_nowhere_else():
  kernels = _kernels({"tiny": (10, 4), "large": (30, 20)})
  optimizer = sparse_methods.make("prune", target_sparsity=0.99)
  with pytest.warns(UserWarning) as caught:
    optimizer.create_masks(kernels)
  (text,) = [str(w.message) for w in caught if "connection" in str(w.message)]
  assert "0.99 of layer 'tiny' would leave none of its 40 weights" in text
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    sparse_methods.make("prune", target_sparsity=0.97).create_masks(
      _kernels({"tiny": (10, 4)})
    )


@pytest.mark.parametrize(
  "method", ["random", "erdos_renyi", "erdos_renyi_kernel"]
)
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.999, 1 - 1e-9])
def test_distributions_leave_a_connection_in_random_shapes(method, sparsity):
  rng = np.random.default_rng(4)
  for _ in range(30):
    shapes = {
      str(i): tuple(int(n) for n in rng.integers(1, 40, rng.integers(2, 5)))
      for i in range(rng.integers(1, 6))
    }
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      sparsities = sparse_utils.get_sparsities(shapes, method, sparsity)
      masks = sparse_utils.get_mask_init_fn(shapes, method, sparsity)()
    for name, mask in masks.items():
      ones = np.count_nonzero(mask)
      zeros = sparse_utils.get_n_zeros(mask.size, sparsities[name])
      assert ones == mask.size - zeros >= 1


def test_a_density_below_the_precision_of_floats_warns_and_leaves_one():
  shapes = {"small": (2, 2), "wide": (50, 40)}
  with pytest.warns(UserWarning, match="'wide' would leave none of its 2000"):
    sparsities = sparse_utils.get_sparsities(
      shapes, "erdos_renyi_kernel", 0.999, None, 30.0
    )
  assert sparse_utils.get_n_zeros(2000, sparsities["wide"]) == 1999


def test_sparsities_that_leave_something_are_the_published_ones():
  for shape in ((10, 4), (30, 20)):
    for sparsity in (0.0, 0.5, 0.99, 0.9999):
      found = sparse_utils.get_sparsities({"a": shape}, "random", sparsity)
      assert found == {"a": sparsity}
