# SPDX-License-Identifier: Apache-2.0
"""Layers of blocks against dense kernels."""

import numpy as np
import pytest
import tensorflow as tf

from rigl.sparse import BlockSparseDense

# Inputs, outputs, block, sparsity.
SHAPES = [(6, 6, 2, 0.6), (8, 12, 2, 0.5), (12, 4, 2, 0.5), (5, 5, 5, 0.0)]


def random_layer(inputs, outputs, block, sparsity, **options):
  layer = BlockSparseDense(
    inputs, outputs, sparsity, block=block, name="layer", **options
  )
  if layer.bias is not None:
    rng = np.random.default_rng(1)
    layer.bias.assign(rng.normal(size=outputs).astype(np.float32))
  return layer


def computed(layer, x, upstream):
  """The output, and all gradients of sum(y * upstream)."""
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = layer(x)
    loss = tf.reduce_sum(y * upstream)
  return y, *tape.gradient(loss, [x, layer.values, layer.bias])


def blocks_of(kernel, layer):
  """The active blocks of a dense matrix, in the order of the values."""
  size = layer.block
  return np.stack(
    [
      kernel[i * size : (i + 1) * size, j * size : (j + 1) * size].T
      for i, j in np.argwhere(layer.grid())
    ]
  )


def arrays(layer, batch, dtype=np.float32):
  rng = np.random.default_rng(2)
  inputs, outputs = layer.shape
  shapes = ((batch, inputs), (batch, outputs))
  return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_equal_those_of_the_dense_kernel(shape, how):
  layer = random_layer(*shape)
  compute = computed
  if how != "eager":
    compute = tf.function(computed, jit_compile=how == "xla")
  for batch in (0, 1, 7):
    x, upstream = arrays(layer, batch)
    y, of_x, of_values, of_bias = compute(
      layer, tf.constant(x), tf.constant(upstream)
    )
    kernel, bias = layer.kernel(), layer.bias.numpy()
    close = dict(rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y, x @ kernel + bias, **close)
    np.testing.assert_allclose(of_x, upstream @ kernel.T, **close)
    expected = blocks_of(x.T @ upstream, layer)
    np.testing.assert_allclose(of_values, expected, **close)
    np.testing.assert_allclose(of_bias, upstream.sum(0), **close)


def test_gradients_equal_finite_differences():
  layer = random_layer(8, 12, 2, 0.5)
  x, _ = arrays(layer, 3, np.float64)

  def loss():
    return tf.reduce_sum(tf.sin(layer(tf.constant(x))))

  with tf.GradientTape() as tape:
    value = loss()
  gradient = tape.gradient(value, layer.values).numpy().reshape(-1)
  start = layer.values.numpy()
  for i in range(0, start.size, 7):
    shifted = []
    for sign in (1, -1):
      step = np.zeros(start.size, np.float32)
      step[i] = sign * 2**-10
      layer.values.assign(start + step.reshape(start.shape))
      shifted.append(float(loss()))
    # The weights are float32, so the steps are not exactly 2**-10.
    assert gradient[i] == pytest.approx(
      (shifted[0] - shifted[1]) / 2**-9, rel=1e-3, abs=1e-3
    )


def test_features_may_come_first():
  layer = random_layer(8, 12, 2, 0.5, activation=tf.nn.relu)
  x, _ = arrays(layer, 5)
  np.testing.assert_array_equal(
    layer.features_first(tf.constant(x.T)), tf.transpose(layer(x))
  )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_products_are_computed_in_the_dtype_of_the_input(dtype):
  layer = random_layer(16, 16, 4, 0.5)
  x, upstream = (tf.cast(each, dtype) for each in arrays(layer, 6))
  found = computed(layer, x, upstream)
  assert found[0].dtype == found[1].dtype == dtype
  assert found[2].dtype == tf.float32
  expected = computed(
    layer, *(tf.cast(each, tf.float32) for each in (x, upstream))
  )
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(
      tf.cast(one, tf.float32), other, rtol=0.05, atol=0.1
    )


def test_more_axes_and_none():
  layer = random_layer(8, 12, 2, 0.5, activation=tf.nn.relu, use_bias=False)
  assert layer.bias is None
  rng = np.random.default_rng(3)
  for shape in ((8,), (2, 8), (2, 3, 8), (0, 3, 8)):
    x = rng.normal(size=shape).astype(np.float32)
    y = layer(x)
    assert y.shape == (*shape[:-1], 12)
    expected = np.maximum(x @ layer.kernel(), 0)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_the_batch_may_be_unknown():
  layer = random_layer(8, 12, 2, 0.5)
  call = tf.function(
    layer.__call__,
    input_signature=[tf.TensorSpec([None, None, 8], tf.float32)],
  )
  x = np.ones((2, 3, 8), np.float32)
  np.testing.assert_allclose(call(x), layer(x), rtol=1e-6)


def test_stored_dtypes():
  layer = random_layer(8, 8, 4, 0.5, dtype="bfloat16")
  assert layer.values.dtype == tf.bfloat16
  x, _ = arrays(layer, 3)
  np.testing.assert_allclose(
    layer(x), x @ layer.kernel() + layer.bias.numpy(), rtol=1e-4, atol=1e-4
  )


def test_a_kernel_becomes_a_layer_and_comes_back():
  layer = random_layer(8, 12, 2, 0.5)
  kernel, mask, bias = layer.kernel(), layer.mask(), layer.bias.numpy()
  assert (mask | (kernel == 0)).all() and mask.mean() == 0.5
  kernel[0, :] = 0  # Zeros inside of active blocks are weights.
  other = BlockSparseDense.from_kernel(kernel, mask, bias, block=2)
  np.testing.assert_array_equal(other.kernel(), kernel)
  np.testing.assert_array_equal(other.mask(), mask)
  np.testing.assert_array_equal(other.grid(), layer.grid())
  assert other.degrees == layer.degrees and other.sparsity == 0.5
  # Weights off the mask count as 0.
  third = BlockSparseDense.from_kernel(kernel + 1, mask, block=2)
  np.testing.assert_array_equal(third.kernel(), np.where(mask, kernel + 1, 0))


def test_the_layer_is_a_function_of_seed_and_name():
  one, same, *others = (
    BlockSparseDense(64, 32, 0.75, block=4, seed=seed, name=name)
    for seed, name in [(0, "a"), (0, "a"), (1, "a"), (0, "b")]
  )
  np.testing.assert_array_equal(one.kernel(), same.kernel())
  for other in others:
    assert (one.mask() != other.mask()).any()
  # He initialization by the active inputs.
  assert one.values.numpy().std() == pytest.approx((2 / 16) ** 0.5, rel=0.1)


def test_a_checkpoint_brings_values_and_blocks(tmp_path):
  layer = random_layer(64, 32, 4, 0.75)
  other = random_layer(64, 32, 4, 0.75, seed=1)
  path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "model"))
  tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
  np.testing.assert_array_equal(other.kernel(), layer.kernel())
  x = np.ones((2, 64), np.float32)
  np.testing.assert_array_equal(other(x), layer(x))


def test_a_saved_model_holds_the_layer(tmp_path):
  layer = random_layer(8, 12, 2, 0.5)
  module = tf.Module()
  module.layer = layer
  module.call = tf.function(
    layer.__call__, input_signature=[tf.TensorSpec([None, 8], tf.float32)]
  )
  tf.saved_model.save(module, str(tmp_path))
  x = np.ones((3, 8), np.float32)
  loaded = tf.saved_model.load(str(tmp_path))
  np.testing.assert_array_equal(loaded.call(x), module.call(x))


def test_the_sparsity_is_the_nearest_possible_one():
  assert BlockSparseDense(64, 96, 0.9, block=16).sparsity == 0.5
  assert BlockSparseDense(64, 64, 0.72, block=16).sparsity == 0.75
  with pytest.warns(UserWarning, match="cannot have the sparsity 0.9, but 0:"):
    assert BlockSparseDense(48, 64, 0.9, block=16).sparsity == 0.0


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (dict(inputs=0), "`inputs` must be an integer of at least 1, got 0"),
    (dict(outputs=2.5), "`outputs` must be an integer of at least 1"),
    (dict(sparsity=1.0), r"`sparsity` must be in \[0, 1\), got 1.0"),
    (dict(sparsity=-0.1), r"`sparsity` must be in \[0, 1\)"),
    (dict(seed=-1), "`seed` must be an integer of at least 0, got -1"),
    (dict(block=5), "allowed are 1, 2, 4, 8, got 5"),
    (dict(block=-2), "`block` must be an integer of at least 1"),
    (dict(dtype="float64"), "`dtype` must be float32, bfloat16 or float16"),
    (dict(dtype="float31"), "`dtype` must be .*, got 'float31'"),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  given = {"inputs": 16, "outputs": 8, "block": 4, **arguments}
  with pytest.raises(ValueError, match=message):
    BlockSparseDense(**given)


def test_bad_kernels_and_inputs_are_refused():
  kernel = np.ones((8, 4), np.float32)
  unequal = kernel.copy()
  unequal[:2, :2] = 0
  for arguments, message in (
    ((np.ones(3),), "`kernel` must have the shape"),
    ((kernel, np.ones((2, 3))), r"`mask` must have the shape \(8, 4\)"),
    ((kernel, None, np.ones(3)), r"`bias` must have the shape \(4,\)"),
    ((unequal,), "`mask` must have the same number of active blocks"),
  ):
    with pytest.raises(ValueError, match=message):
      BlockSparseDense.from_kernel(*arguments, block=2)
  layer = BlockSparseDense.from_kernel(kernel, block=2)
  with pytest.raises(ValueError, match=r"`x` must have the shape \[..., 8\]"):
    layer(tf.zeros([2, 4]))
  with pytest.raises(ValueError, match=r"shape \[8, tokens\]"):
    layer.features_first(tf.zeros([2, 8]))
  with pytest.raises(ValueError, match="`x` must be float, got int32"):
    layer(tf.zeros([2, 8], tf.int32))
