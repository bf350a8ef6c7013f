# SPDX-License-Identifier: Apache-2.0
"""Models of all kinds become sparse and dense again, with equal weights."""

import keras
import numpy as np
import pytest
from keras import layers

import rigl.keras
import rigl.sparse
from rigl.sparse.keras import SparseDense, conversion
from rigl.sparse.timing import StepTimes

IMAGES = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)


def sequential():
  return keras.Sequential(
    [
      keras.Input([6, 8]),
      layers.Dense(12, "relu"),
      layers.Dropout(0.5),
      layers.LayerNormalization(),
      layers.Flatten(),
      layers.Dense(5, use_bias=False),
    ]
  )


def unbuilt_sequential():
  return keras.Sequential([layers.Flatten(), layers.Dense(12), layers.Dense(5)])


def functional():
  """A shared layer, a nested model, an operation, and two outputs."""
  inputs = keras.Input([6, 8])
  shared = layers.Dense(8, "tanh", name="shared")
  x = shared(shared(inputs)) + inputs
  inner = keras.Input([8])
  nested = keras.Model(inner, layers.Dense(7)(inner), name="nested")
  nested_list = keras.Sequential([layers.Dense(7), layers.Dense(7)])
  pooled = keras.ops.mean(x, axis=1)
  features = nested_list(nested(pooled))
  return keras.Model(
    inputs, [layers.Dense(3, name="a")(features), layers.Dense(2)(pooled)]
  )


class Block(layers.Layer):
  """Layers as attributes, in a list, a tuple, a dictionary and a model."""

  def __init__(self, **options):
    super().__init__(**options)
    self.attention = layers.MultiHeadAttention(2, 4)
    self.up = layers.Dense(16, "gelu")
    self.again = self.up
    self._hidden = [layers.Dense(16), layers.LayerNormalization()]
    self.pair = (layers.Dense(16), layers.Dense(8))
    self.by_name = {"one": [layers.Dense(8)]}
    self.model = keras.Sequential([layers.Dense(8), layers.Dense(8)])

  def call(self, x):
    x = x + self.attention(x, x)
    y = self._hidden[1](self._hidden[0](self.up(x)))
    y = self.pair[1](self.pair[0](y))
    return self.model(self.by_name["one"][0](y)) + x


def with_blocks():
  inputs = keras.Input([6, 8])
  x = Block(name="block")(inputs)
  x = layers.TimeDistributed(layers.Dense(8))(x)
  return keras.Model(inputs, layers.Dense(5)(x))


class Subclassed(keras.Model):
  def __init__(self, **options):
    super().__init__(**options)
    self.first = layers.Dense(8, "relu")
    self.blocks = [Block() for _ in range(2)]
    self.head = layers.Dense(5)

  def call(self, x):
    x = self.first(x)
    for block in self.blocks:
      x = block(x)
    return self.head(x)


MODELS = {
  "sequential": (sequential, 2),
  "unbuilt_sequential": (unbuilt_sequential, 2),
  "functional": (functional, 6),
  "with_blocks": (with_blocks, 9),
  "subclassed": (Subclassed, 16),
}


def made(name):
  keras.utils.set_random_seed(1)
  model = MODELS[name][0]()
  model(IMAGES)
  return model


def dense_kernels(model, kind=layers.Dense):
  return [la for la in model._flatten_layers() if type(la) is kind]


def prune(model, share=0.7, seed=0):
  """Sets weights of all dense kernels to zero."""
  rng = np.random.default_rng(seed)
  for layer in dense_kernels(model):
    kernel = layer.kernel.numpy()
    layer.kernel.assign(kernel * (rng.uniform(size=kernel.shape) > share))


def outputs(model):
  return keras.tree.flatten(model(IMAGES))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_becomes_sparse_and_dense_again(name):
  model = made(name)
  prune(model)
  before = model.get_weights()
  sparse = rigl.sparse.convert(model)
  assert type(sparse) is type(model) and sparse.name == model.name
  assert len(dense_kernels(sparse, SparseDense)) == MODELS[name][1]
  assert not dense_kernels(sparse)
  for one, other in zip(outputs(sparse), outputs(model), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
  again = rigl.sparse.to_dense(sparse)
  assert not dense_kernels(again, SparseDense)
  if name in ("sequential", "unbuilt_sequential", "functional"):
    assert [v.path for v in again.weights] == [v.path for v in model.weights]
  for found, expected in zip(again.get_weights(), before, strict=True):
    np.testing.assert_array_equal(found, expected)
  # Nothing is shared with the model, and nothing happened to it.
  for each in (*sparse.weights, *again.weights):
    if each.dtype == "float32":
      each.assign(each + 1)
  for found, expected in zip(model.get_weights(), before, strict=True):
    np.testing.assert_array_equal(found, expected)


def test_a_subclassed_model_that_has_trained_is_converted():
  model = made("subclassed")
  optimizer = rigl.keras.RigL("adam", 0.5, frequency=2, mask_engine="numpy")
  model.compile(optimizer, "mse", run_eagerly=True)
  model.fit(IMAGES, np.zeros(outputs(model)[0].shape), verbose=0)
  sparse = rigl.sparse.convert(model)
  np.testing.assert_allclose(
    *outputs(sparse), *outputs(model), rtol=1e-4, atol=1e-5
  )
  masks = {path: mask.numpy() for path, mask in optimizer.masks.items()}
  number = sum(
    int(masks[layer.kernel.path].sum()) for layer in dense_kernels(model)
  )
  found = dense_kernels(sparse, SparseDense)
  assert sum(int(layer.mask().sum()) for layer in found) == number


@pytest.mark.parametrize("name", MODELS)
def test_converted_models_train(name):
  model = rigl.sparse.convert(made(name), 0.5)
  y = [np.zeros(np.shape(each)) for each in outputs(model)]
  model.compile(
    rigl.keras.RigL("adam", 0.5, frequency=2, mask_engine="numpy"), "mse"
  )
  for _ in range(3):
    model.train_on_batch(IMAGES, y if len(y) > 1 else y[0])
  for layer in dense_kernels(model, SparseDense):
    assert layer.mask().sum() == layer.values.shape[0]


def test_weights_files_fit_a_model_that_is_converted_alike(tmp_path):
  sparse = rigl.sparse.convert(made("subclassed"), 0.5, seed=1)
  other = rigl.sparse.convert(made("subclassed"), 0.5, seed=2)
  sparse.save_weights(tmp_path / "model.weights.h5")
  other.load_weights(tmp_path / "model.weights.h5")
  for one, two in zip(sparse.weights, other.weights, strict=True):
    np.testing.assert_array_equal(one, two)


def test_a_keras_file_of_a_converted_model(tmp_path):
  sparse = rigl.sparse.convert(made("functional"), 0.5)
  sparse.save(tmp_path / "model.keras")
  loaded = keras.models.load_model(tmp_path / "model.keras")
  for one, two in zip(outputs(sparse), outputs(loaded), strict=True):
    np.testing.assert_array_equal(one, two)


def test_random_masks_are_those_of_masked_training():
  model = made("sequential")
  masked = keras.models.clone_model(model)
  optimizer = rigl.keras.RigL("sgd", 0.8, seed=4)
  optimizer.build(masked.trainable_variables)
  sparse = rigl.sparse.convert(model, 0.8, seed=4)
  for layer, mask in zip(
    dense_kernels(sparse, SparseDense), optimizer.masks.values(), strict=True
  ):
    np.testing.assert_array_equal(layer.mask(), mask)


def test_sparsity_keeps_the_weights_of_a_sparse_kernel():
  model = made("unbuilt_sequential")
  prune(model, 0.9)
  sparse = rigl.sparse.convert(
    model, 0.5, distribution={model.layers[2].kernel.path: 0.0}
  )
  assert type(sparse.layers[2]) is layers.Dense
  np.testing.assert_array_equal(
    sparse.layers[1].kernel(), model.layers[1].kernel
  )
  assert sparse.layers[1].mask().sum() == 48 * 12 // 2


def test_active_weights_that_are_zero_stay_connections():
  model = made("sequential")
  optimizer = rigl.keras.RigL("sgd", 0.5)
  model.compile(optimizer)
  optimizer.build(model.trainable_variables)
  model.layers[0].kernel.assign(np.zeros([8, 12]))
  sparse = rigl.sparse.convert(model)
  for mask, layer in zip(
    optimizer.masks.values(), dense_kernels(sparse, SparseDense), strict=True
  ):
    np.testing.assert_array_equal(layer.mask(), mask)


def test_weights_off_the_masks_of_the_optimizer_stay():
  model = made("sequential")
  optimizer = rigl.keras.RigL("sgd", 0.5)
  model.compile(optimizer)
  optimizer.build(model.trainable_variables)
  model.layers[0].kernel.assign(np.ones([8, 12]))
  sparse = rigl.sparse.convert(model)
  np.testing.assert_allclose(*outputs(sparse), *outputs(model), rtol=1e-5)


def test_given_masks_and_filters():
  model = made("functional")
  mask = np.zeros([8, 8])
  mask[2, 3] = 1
  sparse = rigl.sparse.convert(model, masks={"shared": mask})
  (layer,) = dense_kernels(sparse, SparseDense)
  assert layer.kernel()[2, 3] == model.get_layer("shared").kernel.numpy()[2, 3]
  assert layer.values.shape == (1,)
  sparse = rigl.sparse.convert(model, 0.5, filters="shared")
  assert [la.name for la in dense_kernels(sparse, SparseDense)] == ["shared"]


def test_frozen_layers_dtypes_and_settings_are_kept():
  inputs = keras.Input([8])
  x = layers.Dense(
    6,
    "relu",
    kernel_initializer="he_normal",
    kernel_regularizer=keras.regularizers.L2(0.1),
    bias_constraint="non_neg",
    dtype="mixed_bfloat16",
    name="frozen",
  )(inputs)
  model = keras.Model(inputs, layers.Dense(3, name="free")(x))
  model.get_layer("frozen").trainable = False
  sparse = rigl.sparse.convert(model, 0.5)
  assert [v.path for v in sparse.trainable_variables] == [
    "free/kernel",
    "free/bias",
  ]
  frozen = sparse.get_layer("frozen")
  assert not frozen.trainable and frozen.dtype_policy.name == "mixed_bfloat16"
  again = rigl.sparse.to_dense(sparse)
  for name in ("frozen", "free"):
    config = model.get_layer(name).get_config()
    assert again.get_layer(name).get_config() == config
  frozen.trainable = True
  assert len(sparse.trainable_variables) == 4


def test_auto_takes_the_faster_form(monkeypatch):
  asked = []

  def time_steps(inputs, outputs, sparsity, batch_size, *, threads):
    asked.append(((inputs, outputs), round(sparsity, 2), batch_size, threads))
    return StepTimes(1.0, 2.0, 1.5 if outputs == 12 else 0.5)

  monkeypatch.setattr(conversion, "time_steps", time_steps)
  model = made("unbuilt_sequential")
  options = {
    "distribution": "uniform",
    "batch_size": np.int64(64),
    "threads": 2,
  }
  sparse = rigl.sparse.convert(model, 0.5, compute="auto", **options)
  assert asked == [((48, 12), 0.5, 64, 2), ((12, 5), 0.5, 64, 2)]
  assert type(sparse.layers[1]) is SparseDense
  assert type(sparse.layers[2]) is layers.Dense
  assert sparse.layers[1].threads == 2
  # What stays dense has the zeros nevertheless.
  assert np.count_nonzero(sparse.layers[2].kernel) == 30


class MadeLate(layers.Layer):
  """Makes its layer when it is built."""

  def build(self, input_shape):
    self.dense = layers.Dense(4)
    self.dense.build(input_shape)

  def call(self, x):
    return self.dense(x)


class WithLayer(keras.Model):
  """Keras cannot copy it by its configuration."""

  def __init__(self, layer):
    super().__init__()
    self.dense = layer

  def call(self, x):
    return self.dense(x)


class OwnDense(layers.Dense):
  pass


def one_layer(layer):
  return keras.Sequential([keras.Input([8]), layer])


def called(model):
  model(np.ones([2, 8]))
  return model


@pytest.mark.parametrize(
  ("make", "options", "message"),
  [
    (lambda: layers.Dense(3), {}, "`model` must be a Keras model, got Dense"),
    (lambda: keras.Sequential([layers.Dense(3)]), {}, "must be built"),
    (lambda: one_layer(layers.Dense(3)), {}, "must have a dense layer with ze"),
    (lambda: one_layer(OwnDense(3)), {}, "must have a layer of keras.layers.D"),
    (
      lambda: one_layer(layers.Dense(3, kernel_constraint="non_neg")),
      {"sparsity": 0.5},
      "`kernel_constraint`, which needs the whole kernel",
    ),
    (
      lambda: one_layer(layers.Dense(3, dtype="float64")),
      {"sparsity": 0.5},
      "cannot become sparse.*`dtype` must be .* 'float64'",
    ),
    (lambda: one_layer(MadeLate()), {"sparsity": 0.5}, "cannot be replaced"),
    (
      lambda: called(WithLayer(layers.Dense(3))),
      {"sparsity": 0.5},
      "Keras can copy",
    ),
    (lambda: one_layer(layers.Dense(3)), {"sparsity": 1.5}, "`sparsity` must"),
    (
      lambda: one_layer(layers.Dense(3)),
      {"distribution": "erk"},
      "`distribution` needs a `sparsity`",
    ),
    (
      lambda: one_layer(layers.Dense(3)),
      {"sparsity": 0.5, "masks": {}},
      "`sparsity` must be None where `masks`",
    ),
    (
      lambda: one_layer(layers.Dense(3)),
      {"masks": {"other": np.ones([8, 3])}},
      "`masks` must name each dense layer by one key, got 'other'",
    ),
    (
      lambda: one_layer(layers.Dense(3, name="own")),
      {"masks": {"own": np.ones([3, 8])}},
      r"`masks` of 'own' must have the shape \(8, 3\)",
    ),
    (
      lambda: one_layer(layers.Dense(3)),
      {"sparsity": 0.5, "compute": "dense"},
      "`compute` must be one of",
    ),
    (
      lambda: one_layer(layers.Dense(3)),
      {"sparsity": 0.5, "batch_size": 0},
      "`batch_size` must be an integer of at least 1",
    ),
    (
      lambda: one_layer(layers.Dense(3)),
      {"sparsity": 0.5, "filters": "other"},
      "`filters` must match",
    ),
  ],
)
def test_what_cannot_be_converted_is_refused(make, options, message):
  keras.utils.clear_session()
  with pytest.raises(ValueError, match=message):
    rigl.sparse.convert(make(), **options)


def test_other_models_are_copied_by_to_dense():
  model = made("sequential")
  copy = rigl.sparse.to_dense(model)
  assert copy is not model
  for one, two in zip(copy.get_weights(), model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, two)
  with pytest.raises(ValueError, match="must be built"):
    rigl.sparse.to_dense(unbuilt_sequential())
