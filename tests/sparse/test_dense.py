# SPDX-License-Identifier: Apache-2.0
"""Sparse layers against dense kernels, with and without Numba."""

import numpy as np
import pytest
import tensorflow as tf

from rigl.sparse import SparseDense, product


@pytest.fixture(params=["numba", "tensorflow"], autouse=True)
def computed_by(request, monkeypatch):
  if request.param == "numba":
    pytest.importorskip("numba")
  monkeypatch.setattr(product, "has_numba", lambda: request.param == "numba")
  return request.param


def random_layer(shape, density, seed=0, **options):
  rng = np.random.default_rng(seed)
  kernel = rng.normal(size=shape).astype(np.float32)
  mask = rng.uniform(size=shape) < density
  bias = rng.normal(size=shape[1]).astype(np.float32)
  layer = SparseDense.from_kernel(kernel, mask, bias, **options)
  return layer, kernel * mask, mask, bias


def reference(kernel, mask, bias, x, upstream):
  """The output and all gradients of sum(y * upstream), in float64."""
  x, upstream = (np.asarray(each, np.float64) for each in (x, upstream))
  return (
    x @ kernel + bias,
    upstream @ kernel.T,
    (x.T @ upstream)[mask],
    upstream.sum(0),
  )


def computed(layer, x, upstream):
  x = tf.constant(x)
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = layer(x)
    loss = tf.reduce_sum(y * upstream)
  return y, *tape.gradient(loss, [x, layer.values, layer.bias])


@pytest.mark.parametrize("batch", [0, 1, 5, 33])
@pytest.mark.parametrize("density", [0.0, 0.15, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (23, 17)])
def test_outputs_and_gradients_equal_those_of_the_dense_kernel(
  shape, density, batch
):
  layer, *dense = random_layer(shape, density)
  rng = np.random.default_rng(1)
  x = rng.normal(size=(batch, shape[0])).astype(np.float32)
  upstream = rng.normal(size=(batch, shape[1])).astype(np.float32)
  for found, expected in zip(
    computed(layer, x, upstream),
    reference(*dense, x, upstream),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gradients_equal_finite_differences():
  layer, kernel, mask, _ = random_layer((6, 4), 0.5)
  x = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)

  def loss():
    return float(tf.reduce_sum(tf.sin(layer(tf.constant(x)))))

  with tf.GradientTape() as tape:
    value = tf.reduce_sum(tf.sin(layer(tf.constant(x))))
  gradient = tape.gradient(value, layer.values).numpy()
  start = layer.values.numpy()
  for i in range(start.size):
    shifted = []
    for sign in (1, -1):
      step = np.zeros_like(start)
      step[i] = sign * 1e-2
      layer.values.assign(start + step)
      shifted.append(loss())
    layer.values.assign(start)
    assert gradient[i] == pytest.approx(
      (shifted[0] - shifted[1]) / 2e-2, abs=2e-3
    )


@pytest.mark.parametrize("shape", [(40, 30), (3, 400)])
def test_threads_change_no_bit(shape, monkeypatch, computed_by):
  if computed_by == "numba":
    from rigl.sparse import products

    monkeypatch.setattr(products, "_LEAST_WORK", 1)
  rng = np.random.default_rng(3)
  x = rng.normal(size=(16, shape[0])).astype(np.float32)
  upstream = rng.normal(size=(16, shape[1])).astype(np.float32)
  results = [
    computed(random_layer(shape, 0.2, threads=threads)[0], x, upstream)
    for threads in (1, 2, 3, 7)
  ]
  for other in results[1:]:
    for one, two in zip(results[0], other, strict=True):
      np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("input_gradient", [True, False])
@pytest.mark.parametrize("batch", [0, 5])
def test_features_first_swaps_the_axes(batch, input_gradient):
  layer, *_ = random_layer((23, 17), 0.4, input_gradient=input_gradient)
  rng = np.random.default_rng(5)
  x = rng.normal(size=(batch, 23)).astype(np.float32)
  upstream = rng.normal(size=(batch, 17)).astype(np.float32)
  tall = tf.constant(x.T)
  with tf.GradientTape() as tape:
    tape.watch(tall)
    y = layer.features_first(tall)
    loss = tf.reduce_sum(y * upstream.T)
  found = [y, *tape.gradient(loss, [tall, layer.values, layer.bias])]
  expected = computed(layer, x, upstream)
  np.testing.assert_allclose(found[0], tf.transpose(expected[0]), atol=1e-5)
  if input_gradient:
    np.testing.assert_allclose(found[1], tf.transpose(expected[1]), atol=1e-5)
  else:
    assert found[1] is expected[1] is None
  for one, two in zip(found[2:], expected[2:], strict=True):
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("shape", [[22, 3], [23], [2, 23, 3]])
def test_features_first_needs_a_matrix_of_the_inputs(shape):
  layer, *_ = random_layer((23, 17), 0.4)
  with pytest.raises(ValueError, match=r"`x` must have the shape \[23, batch"):
    layer.features_first(tf.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 9), (23, 17)])
def test_the_other_gradients_need_no_gradient_of_the_input(shape):
  rng = np.random.default_rng(4)
  x = rng.normal(size=(5, shape[0])).astype(np.float32)
  upstream = rng.normal(size=(5, shape[1])).astype(np.float32)
  whole, part = (
    computed(random_layer(shape, 0.6, input_gradient=wanted)[0], x, upstream)
    for wanted in (True, False)
  )
  assert whole[1] is not None and part[1] is None
  for one, two in zip(whole[2:], part[2:], strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_a_function_is_traced_once_while_connections_move():
  layer, kernel, mask, bias = random_layer((12, 8), 0.25)
  traces = []

  @tf.function
  def gradient(x):
    traces.append(1)
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(layer(x) ** 2)
    return loss, tape.gradient(loss, layer.values)

  x = np.random.default_rng(4).normal(size=(5, 12)).astype(np.float32)
  for seed in range(4):
    moved = np.random.default_rng(seed).permutation(96)[: mask.sum()]
    positions = np.sort(moved).astype(np.int32)
    values = np.arange(1, positions.size + 1, dtype=np.float32)
    layer.set_connections(tf.constant(positions), tf.constant(values))
    dense = np.zeros(96, np.float32)
    dense[positions] = values
    dense = dense.reshape(12, 8)
    loss, found = gradient(x)
    y = x @ dense + bias
    np.testing.assert_allclose(loss, (y**2).sum(), rtol=1e-4)
    np.testing.assert_allclose(
      found, (x.T @ (2 * y)).reshape(-1)[positions], rtol=1e-3, atol=1e-2
    )
    np.testing.assert_array_equal(layer.kernel(), dense)
  assert len(traces) == 1


def test_fewer_connections_leave_the_rest_at_zero():
  layer, kernel, mask, bias = random_layer((6, 5), 0.5)
  capacity = layer.values.shape[0]
  positions = np.flatnonzero(mask).astype(np.int32)[::2]
  values = np.ones(positions.size, np.float32)
  layer.set_connections(tf.constant(positions), tf.constant(values))
  assert layer.values.shape[0] == capacity
  assert layer.mask().sum() == positions.size
  x = np.ones((2, 6), np.float32)
  upstream = np.ones((2, 5), np.float32)
  dense = np.zeros(30, np.float32)
  dense[positions] = 1
  y, _, sampled, _ = computed(layer, x, upstream)
  np.testing.assert_allclose(y, x @ dense.reshape(6, 5) + bias, rtol=1e-5)
  np.testing.assert_array_equal(sampled[: positions.size], 2.0)
  np.testing.assert_array_equal(sampled[positions.size :], 0.0)


def test_more_axes_and_other_dtypes():
  layer, kernel, _, bias = random_layer((6, 4), 0.5, activation=tf.nn.relu)
  x = np.random.default_rng(5).normal(size=(2, 3, 6))
  for dtype, tolerance in ((tf.float64, 1e-5), (tf.bfloat16, 0.1)):
    y = layer(tf.cast(x, dtype))
    assert y.dtype == dtype and y.shape == (2, 3, 4)
    expected = np.maximum(x @ kernel + bias, 0)
    np.testing.assert_allclose(
      tf.cast(y, tf.float32), expected, rtol=tolerance, atol=tolerance
    )


def test_bfloat16_values_are_rounded_and_computed_in_float32():
  layer, kernel, mask, bias = random_layer((6, 4), 0.5, dtype="bfloat16")
  assert layer.values.dtype == tf.bfloat16
  rounded = tf.cast(tf.cast(kernel, tf.bfloat16), tf.float32).numpy()
  np.testing.assert_array_equal(layer.kernel(), rounded)
  x = np.random.default_rng(6).normal(size=(3, 6)).astype(np.float32)
  np.testing.assert_allclose(layer(x), x @ rounded + bias, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_brings_values_and_positions(tmp_path):
  layer, kernel, *_ = random_layer((9, 5), 0.4)
  other, *_ = random_layer((9, 5), 0.4, seed=0)
  positions = np.sort(
    np.random.default_rng(8).permutation(45)[: other.values.shape[0]]
  ).astype(np.int32)
  other.set_connections(tf.constant(positions), other.values)
  path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "model"))
  x = np.random.default_rng(7).normal(size=(2, 9)).astype(np.float32)
  assert (layer(x).numpy() != other(x).numpy()).any()
  tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
  np.testing.assert_array_equal(other.kernel(), kernel)
  np.testing.assert_array_equal(layer(x), other(x))


def test_backward_passes_are_kept_when_wanted():
  layer, *_ = random_layer((4, 3), 0.5)
  x = np.random.default_rng(9).normal(size=(2, 4)).astype(np.float32)
  upstream = np.ones((2, 3), np.float32)
  computed(layer, x, upstream)
  assert not layer.product.take_batches()
  layer.product.keeps_batches = True
  computed(layer, x, upstream)
  computed(layer, 2 * x, upstream)
  taken = layer.product.take_batches()
  dense = sum(inputs @ gradients.T for inputs, gradients in taken)
  np.testing.assert_allclose(dense, 3 * x.T @ upstream, rtol=1e-5)
  assert not layer.product.take_batches()


def test_the_layer_is_a_function_of_seed_and_name():
  one, same, *others = (
    SparseDense(20, 10, 0.7, seed=seed, name=name)
    for seed, name in [(0, "a"), (0, "a"), (1, "a"), (0, "b")]
  )
  np.testing.assert_array_equal(one.kernel(), same.kernel())
  assert one.values.shape[0] == 60  # 200 - floor(0.7 * 200)
  for other in others:
    assert (one.mask() != other.mask()).any()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (dict(inputs=0), "`inputs` must be an integer of at least 1, got 0"),
    (dict(outputs=-1), "`outputs` must be an integer of at least 1, got -1"),
    (dict(outputs=2.5), "`outputs` must be an integer of at least 1, got 2.5"),
    (dict(sparsity=1.0), r"`sparsity` must be in \[0, 1\), got 1.0"),
    (dict(sparsity="0.9"), "`sparsity` must be a number"),
    (dict(seed=-1), "`seed` must be an integer of at least 0, got -1"),
    (dict(threads=0), "`threads` must be an integer of at least 1, got 0"),
    (dict(dtype="float16"), "`dtype` must be float32 or bfloat16"),
    (dict(dtype="float31"), "`dtype` must be .*, got 'float31'"),
    (dict(inputs=50_000, outputs=50_000), "at most 2147483647 weights"),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    SparseDense(**{"inputs": 3, "outputs": 2, **arguments})


def test_bad_kernels_and_inputs_are_refused():
  kernel = np.ones((3, 2), np.float32)
  for arguments, message in (
    ((np.ones(3),), "`kernel` must have the shape"),
    ((kernel, np.ones((2, 3))), r"`mask` must have the shape \(3, 2\)"),
    ((kernel, None, np.ones(3)), r"`bias` must have the shape \(2,\)"),
  ):
    with pytest.raises(ValueError, match=message):
      SparseDense.from_kernel(*arguments)
  with pytest.raises(ValueError, match=r"`x` must have the shape \[..., 3\]"):
    SparseDense.from_kernel(kernel)(tf.zeros([2, 4]))
  layer = SparseDense.from_kernel(kernel)
  for apply, shape in ((layer, [2, 3]), (layer.features_first, [3, 2])):
    with pytest.raises(ValueError, match="`x` must be float, got int32"):
      apply(tf.zeros(shape, tf.int32))
