# SPDX-License-Identifier: Apache-2.0
"""What the published unit tests promise, asked of this package.

One test for each of them, named after it; docs/differences.md lists them. The
sizes, steps and sparsities are the published ones.
"""

import numpy as np
import pytest
import tensorflow as tf

import rigl
from rigl import sparse_utils
from rigl.sparse_optimizers.grow_init import (
  WEIGHT_METHODS,
  grown_values,
  parse_grow_init,
)

SIZES = [(3, 4, 0.5), (5, 3, 0.8), (8, 5, 0.8)]
RATE = 1e-3
# Without a program to compile for each size.
ON_HOST = {"mask_engine": "numpy"}


def gradient_descent(rate=0.1):
  return tf.compat.v1.train.GradientDescentOptimizer(rate)


class Layer:
  """A kernel with the mask of its optimizer, of which half is active.

  The loss is the mean of the outputs for random inputs, or the sum of the
  kernel times `coefficients`.
  """

  def __init__(self, optimizer, inputs, outputs, half=True):
    self._random = np.random.default_rng(inputs * outputs)
    values = self._random.normal(size=(inputs, outputs)).astype(np.float32)
    self.kernel = tf.Variable(values, name="layer/weights")
    self.optimizer, self.step = optimizer, tf.Variable(0, dtype=tf.int64)
    mask = self._random.integers(0, 2, (inputs, outputs))
    masks = {"layer": mask} if half else None
    optimizer.create_masks({"layer": self.kernel}, masks)

  def mask(self):
    return self.optimizer.layers[0].mask.numpy()

  def iterate(self, gradient=None):
    """One iteration; returns the masks before and after it."""
    if gradient is None:
      inputs = self._random.uniform(size=(self.kernel.shape[0], 1))
      gradient = inputs * np.ones(self.kernel.shape) / self.kernel.shape[1]
    before = self.mask()
    pair = (tf.constant(gradient, tf.float32), self.kernel)
    self.optimizer.apply_gradients([pair], self.step)
    return before, self.mask()


# --- SparseSETOptimizerTest ---------------------------------------------------


def sparse_set(inputs, outputs, drop, begin=1, end=4, every=2):
  optimizer = rigl.SparseSETOptimizer(
    gradient_descent(), begin, end, every, drop_fraction=drop, **ON_HOST
  )
  return Layer(optimizer, inputs, outputs)


@pytest.mark.parametrize("size", [(15, 25, 0.5), (15, 25, 0.2), (3, 5, 0.2)])
def test_mask_non_update_iterations(size):
  layer = sparse_set(*size)
  for i in range(1, 6):
    before, after = layer.iterate()
    if i not in (1, 3):
      np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("size", [(15, 25, 0.5), (15, 25, 0.7), (30, 10, 0.9)])
def test_update_iterations(size):
  layer = sparse_set(*size)
  for i in range(1, 5):
    before, after = layer.iterate()
    assert before.sum() == after.sum()
    assert np.any(before != after) == (i in (1, 3))


@pytest.mark.parametrize("window", [(3, 7, 2), (1, 5, 3), (0, 4, 1)])
def test_no_drop(window):
  layer = sparse_set(3, 5, 0.0, *window)
  for _ in range(window[1] + 2):
    np.testing.assert_array_equal(*layer.iterate())


def test_new_connection_zero_init():
  layer = sparse_set(3, 5, 0.5, begin=0, end=4, every=1)
  grown = 0
  for _ in range(5):
    before, after = layer.iterate()
    new = after & ~before
    assert not np.any(layer.kernel.numpy()[new])
    grown += new.sum()
  assert grown


@pytest.mark.parametrize("method", ["zeros", "random_normal", "random_uniform"])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("shape", [(3, 7, 2), (5, 3), (1,), (3, 4)])
def test_shape_and_dtype_of_get_grow_tensor(shape, dtype, method):
  size = int(np.prod(shape))
  weights = tf.constant(np.linspace(0, 5, size), dtype)
  noise = tf.constant(np.linspace(-1, 1, size), tf.float32)
  found = grown_values(
    parse_grow_init(method, WEIGHT_METHODS),
    weights,
    tf.ones(size, tf.bool),
    None,
    None,
    noise,
    noise,
  )
  assert (found.shape, found.dtype) == (weights.shape, dtype)


@pytest.mark.parametrize("method", ["ones", "zero", None, 0])
def test_value_error_of_get_grow_tensor(method):
  with pytest.raises(ValueError, match="`grow_init` must be"):
    rigl.SparseSETOptimizer(gradient_descent(), 0, 1, 1, grow_init=method)


# --- SparseStaticOptimizerTest ------------------------------------------------


@pytest.mark.parametrize("size", [(15, 25, 0.5), (15, 25, 0.2), (3, 5, 0.2)])
def test_mask_static(size):
  inputs, outputs, drop = size
  optimizer = rigl.SparseStaticOptimizer(
    gradient_descent(), 1, 4, 2, drop_fraction=drop, **ON_HOST
  )
  layer = Layer(optimizer, inputs, outputs)
  for _ in range(5):
    np.testing.assert_array_equal(*layer.iterate())


# --- SparseMomentumOptimizerTest ----------------------------------------------


@pytest.mark.parametrize("size", [(3, 4, 0.5), (5, 2, 0.0), (2, 5, 1.0)])
def test_momentum_update(size):
  inputs, outputs, momentum = size
  optimizer = rigl.SparseMomentumOptimizer(
    gradient_descent(), 1, 4, 2, drop_fraction=0.5, momentum=momentum, **ON_HOST
  )
  layer = Layer(optimizer, inputs, outputs)
  gradient = np.tile(np.arange(outputs), (inputs, 1))
  (average,) = (
    value
    for name, value in optimizer.state().items()
    if "MovingAverage" in name
  )
  expected = np.zeros((inputs, outputs))
  for _ in range(6):
    np.testing.assert_allclose(average, expected, rtol=1e-6)
    layer.iterate(gradient)
    expected = momentum * expected + (1 - momentum) * gradient
  np.testing.assert_allclose(average, expected, rtol=1e-6)


# --- SparseRigLOptimizerTest --------------------------------------------------


@pytest.mark.parametrize("size", [(3, 4), (5, 2), (2, 5)])
def test_masked_gradient_calculation(size):
  """Growth sees the dense gradient of this very iteration."""
  optimizer = rigl.SparseRigLOptimizer(
    gradient_descent(RATE), 0, 3, 1, drop_fraction=0.5, **ON_HOST
  )
  layer, updates = Layer(optimizer, *size), 0
  for i in range(6):
    gradient = (i + 1) * np.roll(np.arange(1.0, np.prod(size) + 1), i)
    gradient = gradient.reshape(size)
    before, after = layer.iterate(gradient)
    grown, off = after & ~before, ~after & ~before
    if grown.any() and off.any():
      assert gradient[grown].min() > gradient[off].max()
      updates += 1
  assert updates


@pytest.mark.parametrize(
  "window, steps",
  [
    ((3, 7, 2), [1, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1]),
    ((1, 5, 3), [1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1]),
    ((0, 4, 1), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1]),
  ],
)
def test_apply_gradients(window, steps):
  optimizer = rigl.SparseRigLOptimizer(
    gradient_descent(RATE), *window, drop_fraction=0.5, **ON_HOST
  )
  layer = Layer(optimizer, 3, 5)
  for advance in steps:
    before = int(layer.step)
    layer.iterate()
    assert int(layer.step) - before == advance


# --- SparseSnipOptimizerTest --------------------------------------------------


def dense_start(optimizer_class, inputs, outputs, sparsity):
  optimizer = optimizer_class(
    gradient_descent(RATE), sparsity, "random", **ON_HOST
  )
  layer = Layer(optimizer, inputs, outputs, half=False)
  scale = np.random.default_rng(outputs).uniform(-0.5, 0.5, outputs)
  return layer, np.outer(np.arange(1, inputs + 1), scale)


def assert_sparsity(mask, sparsity):
  zeros = mask.size - np.count_nonzero(mask)
  assert zeros == sparse_utils.get_n_zeros(mask.size, sparsity)


def assert_largest(scores, mask):
  assert scores[~mask].max() <= scores[mask].min()


@pytest.mark.parametrize("size", SIZES)
def test_snip_sparsity_and_gradient_used(size):
  layer, gradient = dense_start(rigl.SparseSnipOptimizer, *size)
  scores = np.abs(gradient * layer.kernel.numpy())
  _, mask = layer.iterate(gradient)
  assert_sparsity(mask, size[2])
  assert_largest(scores, mask)


@pytest.mark.parametrize("size", SIZES)
def test_initial_mask_is_dense(size):
  layer, _ = dense_start(rigl.SparseSnipOptimizer, *size)
  assert layer.mask().all()


@pytest.mark.parametrize("size", SIZES)
def test_after_snip_training(size):
  layer, gradient = dense_start(rigl.SparseSnipOptimizer, *size)
  layer.iterate(gradient)
  assert bool(layer.optimizer.is_snipped)
  for i in range(3):
    assert int(layer.step) == i
    before, after = layer.iterate(gradient)
    np.testing.assert_array_equal(before, after)


# --- SparseDNWOptimizerTest ---------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_dnw_sparsity_and_weights_used(size):
  layer, gradient = dense_start(rigl.SparseDNWOptimizer, *size)
  weights = np.abs(layer.kernel.numpy())
  _, mask = layer.iterate(RATE * gradient)
  assert_sparsity(mask, size[2])
  assert_largest(weights, mask)


@pytest.mark.parametrize("size", SIZES)
def test_gradient_is_dense(size):
  layer, gradient = dense_start(rigl.SparseDNWOptimizer, *size)
  (dense,) = map(layer.optimizer.dense_weights, layer.optimizer.layers)
  for _ in range(2):  # In the second step the mask is sparse.
    before = dense.numpy()
    layer.iterate(gradient)
    np.testing.assert_allclose(
      before - dense.numpy(), RATE * gradient, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("size", SIZES)
def test_dnw_updates_and_sparsity_after_them(size):
  layer, gradient = dense_start(rigl.SparseDNWOptimizer, *size)
  (dense,) = map(layer.optimizer.dense_weights, layer.optimizer.layers)
  for _ in range(5):
    _, mask = layer.iterate(100 * gradient)
    assert_largest(np.abs(dense.numpy()), mask)
    assert_sparsity(mask, size[2])


# --- GetMaskRandomTest --------------------------------------------------------


@pytest.mark.parametrize(
  "shape, sparsity", [((30, 40), 0.5), ((1, 2, 1, 4), 0.8), ((3,), 0.1)]
)
def test_mask_connection_determinism(shape, sparsity):
  counts = {
    sparse_utils.get_mask_random(shape, sparsity, seed).sum()
    for seed in range(5)
  }
  assert len(counts) == 1


@pytest.mark.parametrize(
  "shape, sparsity, ones",
  [((30, 4), 0.5, 60), ((1, 2, 1, 4), 0.8, 2), ((30,), 0.1, 27)],
)
def test_mask_fraction(shape, sparsity, ones):
  assert sparse_utils.get_mask_random(shape, sparsity, 0).sum() == ones


@pytest.mark.parametrize("dtype", ["int32", "float32", "int64", "float64"])
def test_mask_dtype(dtype):
  mask = sparse_utils.get_mask_random((3, 2), 0.5, 0, dtype=dtype)
  assert mask.dtype == dtype


# --- GetSparsitiesTest --------------------------------------------------------


@pytest.mark.parametrize("default", [0.0, 0.4, 0.9])
def test_sparsity_dict_random(default):
  layers = {"var1": (2, 3), "var2": (2, 3), "var3": (1, 1, 3)}
  found = sparse_utils.get_sparsities(layers, "random", default, {"var1": 0.8})
  assert found == {"var1": 0.8, "var2": default, "var3": default}


@pytest.mark.parametrize("default", [0.1, 0.4, 0.9])
def test_sparsity_dict_erdos_renyi_custom(default):
  """Also `testSparsityDictErdosRenyiError`, which asks the same."""
  layers = {"var1": (2, 4), "var2": (2, 3), "var3": (1, 1, 3)}
  custom = {"var3": 0.8}
  found = sparse_utils.get_sparsities(layers, "erdos_renyi", default, custom)
  assert found["var3"] == 0.8


@pytest.mark.parametrize(
  "first, second, default",
  [
    ((2, 3), (2, 3), 0.5),
    ((1, 1, 2, 3), (1, 1, 2, 3), 0.3),
    ((8, 6), (4, 3), 0.7),
    ((80, 4), (20, 20), 0.8),
    ((2, 6), (2, 3), 0.8),
  ],
)
def test_sparsity_dict_erdos_renyi_sparsities_scale(first, second, default):
  layers = {"var1": first, "var2": second}
  found = sparse_utils.get_sparsities(layers, "erdos_renyi", default)
  sizes = {name: int(np.prod(shape)) for name, shape in layers.items()}
  zeros, expected = (
    sum(sparse_utils.get_n_zeros(sizes[name], s) for name, s in each.items())
    for each in (found, dict.fromkeys(layers, default))
  )
  assert abs(zeros - expected) <= 2
  ratios = [
    (1 - found[name]) / (sum(shape[-2:]) / np.prod(shape[-2:]))
    for name, shape in layers.items()
  ]
  assert ratios[0] == pytest.approx(ratios[1])
