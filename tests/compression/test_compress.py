# SPDX-License-Identifier: Apache-2.0
"""`rigl.compress`: smaller Keras models with the same results."""

import keras
import numpy as np
import pytest
from keras import layers

import rigl
from rigl.keras import networks


def sparsified(model, sparsity=0.9, seed=0):
  """Random zeros in kernels; biases and statistics that are not zero."""
  rng = np.random.default_rng(seed)
  for variable in model.weights:
    value = rng.normal(0, 0.5, variable.shape)
    if "variance" in variable.path or "gamma" in variable.path:
      value = rng.uniform(0.5, 1.5, variable.shape)
    if len(variable.shape) > 1:
      value = value * (rng.random(variable.shape) >= sparsity)
    variable.assign(value)
  return model


def results(model, seed=3):
  rng = np.random.default_rng(seed)
  inputs = [rng.normal(0, 1, [5, *t.shape[1:]]) for t in model.inputs]
  inputs = [
    i.astype(t.dtype) for i, t in zip(inputs, model.inputs, strict=True)
  ]
  return [
    np.asarray(value)
    for value in keras.tree.flatten(
      model(inputs if len(inputs) > 1 else inputs[0], training=False)
    )
  ]


def check(model, smaller=True):
  before = [np.array(value) for value in model.get_weights()]
  expected = results(model)
  new = rigl.compress(model)
  for one, other in zip(expected, results(new), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
  assert (new.count_params() < model.count_params()) == smaller
  for value, now in zip(before, model.get_weights(), strict=True):
    np.testing.assert_array_equal(value, now)
  return new


def mlp(sizes=(30, 40, 20, 5), activation="relu", inputs=None):
  return keras.Sequential(
    [
      keras.Input(inputs or [sizes[0]]),
      *([layers.Flatten()] if inputs else []),
      *(layers.Dense(size, activation) for size in sizes[1:-1]),
      layers.Dense(sizes[-1]),
    ]
  )


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
@pytest.mark.parametrize("sparsity", [0.8, 0.95, 0.99])
def test_perceptrons_lose_dead_neurons(sparsity, activation):
  check(sparsified(mlp(activation=activation), sparsity))


def test_sizes_are_those_that_the_masks_give():
  model = sparsified(mlp([50, 40, 30, 4]), 0.95)
  kernels = [layer.get_weights()[0] for layer in model.layers]
  expected = rigl.compression.compress_fully_connected(kernels)
  new = check(model)
  dense = [layer for layer in new.layers if isinstance(layer, layers.Dense)]
  found = [dense[0].kernel.shape[0], *(layer.units for layer in dense)]
  assert found == expected.sizes


def test_dead_pixels_of_images_are_left_out():
  model = sparsified(mlp([48, 20, 3], inputs=[4, 4, 3]), 0.95)
  new = check(model)
  kernel = next(v for v in new.weights if v.path.endswith("kernel"))
  assert kernel.shape[0] < 48
  assert new.input_shape == (None, 4, 4, 3)


def test_networks_that_are_all_zero_keep_their_results():
  model = sparsified(mlp(), 1.0)
  new = check(model)
  assert all(np.prod(v.shape) > 0 for v in new.weights)


def test_dense_networks_stay_as_they_are():
  check(sparsified(mlp(), 0.0), smaller=False)


def cnn(padding="same", use_bias=True, norm=True):
  return keras.Sequential(
    [
      keras.Input([12, 12, 3]),
      layers.Conv2D(16, 3, padding=padding, use_bias=use_bias),
      *([layers.BatchNormalization()] if norm else []),
      layers.ReLU(),
      layers.MaxPooling2D(2),
      layers.DepthwiseConv2D(3, padding=padding),
      layers.Activation("relu"),
      layers.Conv2D(24, 1, activation="relu"),
      layers.Dropout(0.2),
      layers.ZeroPadding2D(1),
      layers.Conv2D(12, 3, strides=2, use_bias=use_bias),
      layers.Flatten(),
      layers.Dense(8, "elu"),
      layers.Dense(3, "softmax"),
    ]
  )


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("use_bias, norm", [(True, True), (False, False)])
@pytest.mark.parametrize("sparsity", [0.9, 0.98])
def test_convolutions_lose_dead_channels(padding, use_bias, norm, sparsity):
  check(sparsified(cnn(padding, use_bias, norm), sparsity))


def residual():
  """Branches that are added, one output from the middle, two inputs."""
  image, extra = keras.Input([8, 8, 4]), keras.Input([6])
  stem = layers.Conv2D(16, 3, padding="same")(image)
  x = stem
  for _ in range(2):
    y = layers.BatchNormalization()(x)
    y = layers.Conv2D(16, 3, padding="same", activation="relu")(y)
    x = layers.Add()([x, layers.Conv2D(16, 1)(y)])
  middle = layers.GlobalAveragePooling2D()(x)
  side = layers.Dense(16, "relu")(extra)
  joined = layers.Add()([middle, side])
  return keras.Model(
    [image, extra],
    {"a": layers.Dense(3)(joined), "b": layers.Dense(2)(middle)},
  )


@pytest.mark.parametrize("sparsity", [0.9, 0.97])
def test_branches_that_are_added_lose_the_same_channels(sparsity):
  check(sparsified(residual(), sparsity))


def unknown():
  """Layers that are called twice, concatenations and a layer of its own."""
  image = keras.Input([6, 6, 3])
  shared = layers.Conv2D(8, 3, padding="same", activation="relu")
  a = layers.Conv2D(8, 3, padding="same")(image)
  x = shared(shared(a))
  x = layers.Concatenate()([x, layers.SeparableConv2D(5, 3, padding="same")(a)])
  x = layers.LayerNormalization()(x)
  x = layers.Conv2D(10, 3)(x) * 2.0
  x = layers.Flatten()(layers.Conv2D(6, 1)(x))
  hidden = layers.Dense(20, "relu")(x)
  return keras.Model(image, layers.Dense(4)(hidden))


def sequences():
  """One-dimensional convolutions, dilated and causal."""
  x = keras.Input([20, 4])
  y = layers.Conv1D(16, 3, padding="causal", activation="relu")(x)
  y = layers.MaxPooling1D(2)(y)
  y = layers.Conv1D(8, 3, dilation_rate=2)(y)
  return keras.Model(x, layers.Dense(2)(layers.GlobalMaxPooling1D()(y)))


def vectors():
  """Fully connected layers of several vectors, and a result from within."""
  x = keras.Input([5, 7])
  y = layers.Dense(30, "relu")(x)
  z = layers.Flatten()(layers.Dense(20, "tanh")(y))
  return keras.Model(x, [y, layers.Dense(3)(z), x])


@pytest.mark.parametrize("make", [sequences, vectors])
def test_other_shapes_are_compressed(make):
  check(sparsified(make(), 0.95))


def test_unknown_layers_keep_everything():
  check(sparsified(unknown(), 0.95))


@pytest.mark.parametrize(
  "make",
  [
    networks.mnist_mlp,
    lambda: networks.wide_resnet(10, 1),
    lambda: networks.resnet(18, 10, 0.25, 32),
  ],
)
def test_networks_of_the_scripts_are_compressed(make):
  check(sparsified(make(), 0.998))


def test_constant_channels_become_biases():
  """A hand-worked case: relu(2) * 3 = 6 is added to the bias of the output."""
  model = mlp([2, 2, 1])
  first, second = model.layers
  first.set_weights([np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0.5, 2.0])])
  second.set_weights([np.array([[4.0], [3.0]]), np.array([1.0])])
  new = check(model)
  weights = [value.tolist() for value in new.get_weights()]
  assert weights == [[[1.0]], [0.5], [[4.0]], [7.0]]


def test_constants_at_padded_edges_are_no_biases():
  """Next to zeros a constant channel counts less, so it has to stay."""
  model = keras.Sequential(
    [
      keras.Input([4, 4, 1]),
      layers.Conv2D(2, 1),
      layers.Conv2D(1, 3, padding="same", use_bias=False),
    ]
  )
  first, second = model.layers
  kernel = np.zeros([1, 1, 1, 2])
  kernel[..., 0] = 1
  first.set_weights([kernel, np.array([0.0, 2.0])])
  second.set_weights([np.ones([3, 3, 2, 1])])
  check(model, smaller=False)


def test_the_result_is_saved_and_loaded(tmp_path):
  new = rigl.compress(sparsified(mlp(), 0.95))
  new.save(tmp_path / "small.keras")
  loaded = keras.models.load_model(tmp_path / "small.keras")
  np.testing.assert_array_equal(
    *map(np.concatenate, (results(new), results(loaded)))
  )


class Subclassed(keras.Model):
  def __init__(self):
    super().__init__()
    self.dense = layers.Dense(3)

  def call(self, x):
    return self.dense(x)


@pytest.mark.parametrize(
  "model, named",
  [
    (Subclassed, "Model that is built|Keras model that is built"),
    (lambda: keras.Sequential([layers.Dense(3)]), "built"),
    (lambda: 3, "got int"),
  ],
)
def test_other_models_are_refused(model, named):
  with pytest.raises(ValueError, match=named):
    rigl.compress(model())


def test_built_subclassed_models_are_refused():
  model = Subclassed()
  model(np.zeros([1, 2], np.float32))
  with pytest.raises(ValueError, match="Sequential or functional"):
    rigl.compress(model)
