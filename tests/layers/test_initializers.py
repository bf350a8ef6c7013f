# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest

from rigl import layers

SHAPE = (3, 3, 64, 200)
FAN_IN = 3 * 3 * 64
INITIALIZERS = {
  "variance_scaling": layers.variance_scaling,
  "vgg_scaling": layers.vgg_scaling,
  "random_normal": layers.random_normal(0.01),
  "sparse": layers.sparse(layers.variance_scaling, 0.75),
}


@functools.cache
def values_of(name, shape=SHAPE):
  return INITIALIZERS[name](shape, "conv/weights", 3).numpy()


@pytest.mark.parametrize(
  ("name", "stddev"),
  [
    ("variance_scaling", 1 / np.sqrt(FAN_IN)),
    ("vgg_scaling", np.sqrt(2 / FAN_IN)),
    ("random_normal", 0.01),
    ("sparse", 2 / np.sqrt(FAN_IN)),
  ],
)
def test_mean_and_deviation_are_as_described(name, stddev):
  values = values_of(name)
  assert values.dtype == np.float32 and values.shape == SHAPE
  assert abs(values.mean()) < 5 * stddev / np.sqrt(values.size)
  assert values.std() == pytest.approx(stddev, rel=0.01)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_values_are_a_function_of_seed_and_name(name):
  make = INITIALIZERS[name]
  np.testing.assert_array_equal(make(SHAPE, "conv/weights", 3), values_of(name))
  for other in (make(SHAPE, "conv/weights", 4), make(SHAPE, "b/weights", 3)):
    both = np.stack([other.numpy().ravel(), values_of(name).ravel()])
    assert abs(np.corrcoef(both)[0, 1]) < 0.02


def test_sparse_keeps_the_variance_of_outputs_of_active_inputs():
  kernel = values_of("sparse").reshape(FAN_IN, -1)
  rng = np.random.default_rng(0)
  mask = rng.random(kernel.shape) >= 0.75
  outputs = rng.normal(size=(500, FAN_IN)) @ (kernel * mask)
  assert outputs.var() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0])
def test_impossible_sparsities_are_refused(sparsity):
  with pytest.raises(ValueError, match=r"`sparsity` must be in \[0, 1\), got"):
    layers.sparse(layers.variance_scaling, sparsity)


@pytest.mark.parametrize("block", [4, 64, 2**22])
@pytest.mark.parametrize("shape", [(1, 1), (13, 11), (64, 3), (1, 130)])
def test_glorot_uniform_at_positions_draws_the_values_of_the_whole(
  monkeypatch, shape, block
):
  monkeypatch.setattr(layers.initializers, "_BLOCK", block)
  whole = layers.glorot_uniform(shape, "layer2/weights", 5).numpy().reshape(-1)
  rng = np.random.default_rng(0)
  for positions in (
    np.arange(whole.size),
    np.flatnonzero(rng.uniform(size=whole.size) < 0.2),
    np.array([whole.size - 1]),
    np.empty(0, np.int32),
  ):
    found = layers.glorot_uniform_at(shape, "layer2/weights", 5, positions)
    np.testing.assert_array_equal(found, whole[positions], strict=True)
