# SPDX-License-Identifier: Apache-2.0
"""The Keras layer against `Dense` layers of the same kernel."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras
from rigl import sparse_utils
from rigl.sparse import product
from rigl.sparse.keras import BlockSparseDense, SparseDense


@pytest.fixture(params=["numba", "tensorflow"])
def computed_by(request, monkeypatch):
  if request.param == "numba":
    pytest.importorskip("numba")
  monkeypatch.setattr(product, "has_numba", lambda: request.param == "numba")


def built(inputs, units, seed=0, **options):
  """A layer, and a `Dense` one of the same weights."""
  layer = SparseDense(units, seed=seed, **options)
  layer.build([None, inputs])
  if layer.bias is not None:
    layer.bias.assign(np.random.default_rng(seed).normal(size=units))
  dense = layer.dense_layer()
  dense.build([None, inputs])
  dense.kernel.assign(layer.kernel())
  if layer.bias is not None:
    dense.bias.assign(layer.bias)
  return layer, dense


def gradients(layer, x, weights):
  x = tf.constant(x)
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = layer(x)
    loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
  return y, *tape.gradient(loss, [x, *weights])


@pytest.mark.parametrize("shape", [(0, 6), (1, 6), (5, 6), (2, 3, 6)])
@pytest.mark.parametrize("connections", [0, 1, 9, 24])
def test_outputs_and_gradients_are_those_of_a_dense_layer(
  shape, connections, computed_by
):
  layer, dense = built(6, 4, connections=connections, activation="tanh")
  assert layer.mask().sum() == connections == layer.values.shape[0]
  x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
  y, dx, values, bias = gradients(
    layer, x, [layer.values.value, layer.bias.value]
  )
  expected = gradients(dense, x, [dense.kernel.value, dense.bias.value])
  np.testing.assert_allclose(y, expected[0], atol=1e-5)
  np.testing.assert_allclose(dx, expected[1], atol=1e-5)
  np.testing.assert_allclose(values, expected[2][layer.mask()], atol=1e-4)
  np.testing.assert_allclose(bias, expected[3], atol=1e-4)
  assert y.shape == (*shape[:-1], 4)


def test_gradients_equal_finite_differences():
  layer, _ = built(5, 3, sparsity=0.5, activation="softplus")
  x = np.random.default_rng(2).normal(size=(4, 5)).astype(np.float32)

  def loss(values):
    layer.values.assign(values)
    return float(tf.reduce_sum(tf.sin(layer(tf.constant(x)))))

  start = layer.values.numpy()
  found = gradients(layer, x, [layer.values.value])[2].numpy()
  for i, step in enumerate(np.eye(start.size, dtype=np.float32) * 1e-2):
    slope = (loss(start + step) - loss(start - step)) / 2e-2
    assert found[i] == pytest.approx(slope, abs=2e-3)


def test_rows_and_columns_without_connections():
  layer, dense = built(4, 3, connections=2)
  layer.set_connections(np.int32([4, 10]), np.float32([2.0, 3.0]))
  assert np.argwhere(layer.kernel()).tolist() == [[1, 1], [3, 1]]
  dense.kernel.assign(layer.kernel())
  x = np.random.default_rng(3).normal(size=(2, 4)).astype(np.float32)
  np.testing.assert_allclose(layer(x), dense(x), rtol=1e-5)


def test_the_layer_is_a_function_of_its_seed():
  one, same, other = (built(20, 10, seed)[0] for seed in (1, 1, 2))
  np.testing.assert_array_equal(one.kernel(), same.kernel())
  assert (one.mask() != other.mask()).any()
  assert one.values.shape == (200 - sparse_utils.get_n_zeros(200, 0.9),)
  drawn = []
  for _ in range(2):
    keras.utils.set_random_seed(4)
    layers = [SparseDense(10), SparseDense(10)]
    for layer in layers:
      layer.build([None, 20])
    drawn.append([layer.kernel() for layer in layers])
  np.testing.assert_array_equal(drawn[0], drawn[1])
  assert (drawn[0][0] != drawn[0][1]).any()


def test_initial_values():
  layer, _ = built(400, 300, sparsity=0.5)
  stddev = np.sqrt(2 / (layer.values.shape[0] / 300))
  assert np.std(layer.values) == pytest.approx(stddev, rel=0.02)
  layer, _ = built(6, 4, kernel_initializer="ones", sparsity=0.5)
  assert layer.values.numpy().tolist() == [1.0] * 12
  initializer = keras.initializers.GlorotUniform(seed=3)
  layer, _ = built(6, 4, kernel_initializer=initializer, sparsity=0.5)
  whole = keras.initializers.GlorotUniform(seed=3)((6, 4)).numpy()
  np.testing.assert_array_equal(layer.kernel(), whole * layer.mask())


def test_a_regularizer_sums_over_the_connections():
  regularizer = keras.regularizers.L1L2(0.1, 0.2)
  layer, dense = built(6, 4, kernel_regularizer=regularizer, sparsity=0.5)
  np.testing.assert_allclose(layer.losses, dense.losses, rtol=1e-6)


@pytest.mark.parametrize(
  ("policy", "stored", "computed"),
  [
    ("float32", "float32", "float32"),
    ("mixed_bfloat16", "float32", "bfloat16"),
    ("bfloat16", "bfloat16", "bfloat16"),
  ],
)
def test_policies(policy, stored, computed):
  layer, _ = built(6, 4, sparsity=0.5, dtype=policy)
  assert layer.values.dtype == stored and layer.positions.dtype == "int32"
  x = np.random.default_rng(5).normal(size=(3, 6)).astype(np.float32)
  y = layer(x)
  assert y.dtype == computed
  rounded = tf.cast(tf.cast(x, computed), tf.float32).numpy()
  expected = rounded @ layer.kernel() + tf.cast(layer.bias, tf.float32).numpy()
  np.testing.assert_allclose(
    tf.cast(y, tf.float32),
    expected,
    atol=1e-5 if computed == stored else 0.02,
    rtol=0.01,
  )


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "float64"])
def test_other_policies_are_refused(policy):
  with pytest.raises(ValueError, match=f"`dtype` must be .* '{policy}'"):
    SparseDense(4, dtype=policy)


def test_training_in_mixed_bfloat16():
  keras.utils.set_random_seed(0)
  model = keras.Sequential(
    [
      keras.Input([6]),
      SparseDense(16, "relu", sparsity=0.5, dtype="mixed_bfloat16"),
      keras.layers.Dense(1, dtype="mixed_bfloat16"),
    ]
  )
  model.compile(
    rigl.keras.RigL("adam", distribution={"dense": 0.0}, frequency=3), "mse"
  )
  x = np.random.default_rng(6).normal(size=(64, 6)).astype(np.float32)
  losses = model.fit(x, x[:, :1], epochs=5, verbose=0).history["loss"]
  assert losses[-1] < losses[0]
  assert model.layers[0].mask().sum() == 48


def test_xla_is_refused_with_a_warning():
  model = keras.Sequential([keras.Input([6]), SparseDense(2)])
  model.compile("sgd", "mse")
  assert not model.jit_compile
  with pytest.warns(UserWarning, match="jit_compile"):
    model.compile("sgd", "mse", jit_compile=True)
  assert not model.jit_compile
  model.fit(np.ones([4, 6]), np.ones([4, 2]), verbose=0)


def test_a_configuration_gives_an_equal_layer():
  layer = SparseDense(
    4,
    "relu",
    sparsity=0.5,
    kernel_initializer="he_normal",
    kernel_regularizer=keras.regularizers.L2(0.1),
    bias_constraint="non_neg",
    threads=2,
    name="own",
    trainable=False,
  )
  again = SparseDense.from_config(layer.get_config())
  assert again.get_config() == layer.get_config()
  for each in (layer, again):
    each.build([None, 6])
  np.testing.assert_array_equal(layer.mask(), again.mask())
  assert not again.trainable_variables and len(again.weights) == 4


def test_files_bring_values_and_connections(tmp_path):
  def make(seed):
    return keras.Sequential(
      [keras.Input([9]), SparseDense(5, sparsity=0.6, seed=seed)]
    )

  model, other = make(1), make(2)
  x = np.random.default_rng(7).normal(size=(2, 9)).astype(np.float32)
  expected = model.predict(x, verbose=0)
  assert (other.predict(x, verbose=0) != expected).any()
  model.save(tmp_path / "model.keras")
  model.save_weights(tmp_path / "model.weights.h5")
  other.load_weights(tmp_path / "model.weights.h5")
  loaded = keras.models.load_model(tmp_path / "model.keras")
  for each in (other, loaded):
    np.testing.assert_array_equal(
      each.layers[0].kernel(), model.layers[0].kernel()
    )
    np.testing.assert_array_equal(each.predict(x, verbose=0), expected)


def test_a_file_of_another_number_of_connections_is_refused(tmp_path):
  models = [
    keras.Sequential([keras.Input([9]), SparseDense(5, connections=number)])
    for number in (7, 8)
  ]
  models[0].save_weights(tmp_path / "model.weights.h5")
  before = models[1].layers[0].kernel()
  with pytest.raises(ValueError, match=r"shape"):
    models[1].load_weights(tmp_path / "model.weights.h5")
  np.testing.assert_array_equal(models[1].layers[0].kernel(), before)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (dict(units=0), "`units` must be an integer of at least 1, got 0"),
    (dict(units=2.5), "`units` must be an integer of at least 1, got 2.5"),
    (dict(sparsity=1), r"`sparsity` must be in \[0, 1\), got 1"),
    (dict(sparsity="0.9"), "`sparsity` must be a number"),
    (dict(connections=-1), "`connections` must be .* at least 0, got -1"),
    (dict(seed=-1), "`seed` must be an integer of at least 0, got -1"),
    (dict(threads=0), "`threads` must be an integer of at least 1, got 0"),
    (dict(kernel_regularizer="orthogonal_regularizer"), "L1, L2 or L1L2"),
    (dict(kernel_constraint="max_norm"), "`kernel_constraint` is not possible"),
    (dict(lora_rank=2), "`lora_rank` is not possible"),
    (dict(kernels=2), "kernels"),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    SparseDense(**{"units": 4, **arguments})


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("make", [SparseDense, BlockSparseDense])
def test_whole_numbers_are_taken_as_dense_layers_take_them(make, policy):
  x = np.random.default_rng(0).integers(256, size=[3, 6], dtype=np.uint8)
  options = {"block": 2} if make is BlockSparseDense else {}
  layer = make(4, sparsity=0.5, seed=1, dtype=policy, **options)
  y = layer(x)
  dense = layer.dense_layer()
  dense.build([None, 6])
  dense.kernel.assign(layer.kernel())
  assert y.dtype == dense(x).dtype == policy.removeprefix("mixed_")
  found, expected = (tf.cast(each, tf.float32) for each in (y, dense(x)))
  tolerance = 1e-3 if policy == "float32" else 8
  np.testing.assert_allclose(found, expected, atol=tolerance)


def test_bad_inputs_are_refused():
  layer = SparseDense(4, connections=13)
  with pytest.raises(ValueError, match="at most 3 \\* 4, got 13"):
    layer.build([None, 3])
  with pytest.raises(ValueError, match="known number of inputs"):
    SparseDense(4).build([None, None])
  layer, _ = built(6, 4)
  with pytest.raises(ValueError, match="axis -1"):
    layer(np.ones([2, 5], np.float32))


@pytest.mark.parametrize("size", [1, 7])
def test_a_layer_of_one_row_or_column(size):
  for shape in ((1, size), (size, 1)):
    layer, dense = built(*shape, sparsity=0.99)
    assert layer.values.shape[0] == max(1, int(np.ceil(0.01 * size)))
    x = np.ones([3, shape[0]], np.float32)
    np.testing.assert_allclose(layer(x), dense(x), rtol=1e-5)
