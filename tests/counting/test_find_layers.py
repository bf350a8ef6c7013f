# SPDX-License-Identifier: Apache-2.0
"""Layers of Keras models of both kinds, and of models that know their own."""

import types

import keras
import numpy as np
import pytest

from rigl import counting, sparse_utils


def small_model():
  inputs = keras.Input((17, 13, 3))
  x = keras.layers.ZeroPadding2D(1)(inputs)
  x = keras.layers.Conv2D(8, 3, 2, use_bias=False, name="first")(x)
  x = keras.layers.BatchNormalization()(x)
  x = keras.layers.ReLU()(x)
  x = keras.layers.DepthwiseConv2D(3, padding="same", name="depth")(x)
  x = keras.layers.Conv2D(6, (1, 3), activation="silu", name="wide")(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(inputs, keras.layers.Dense(5, "softmax", name="last")(x))


@pytest.fixture(scope="module")
def model():
  return small_model()


def test_layers_of_a_keras_model(model):
  first, depth, wide, last = counting.find_layers(model)
  assert first == counting.LayerSpec(
    "first", "conv2d", (3, 3, 3, 8), (19, 15), 2, "valid", output_size=(9, 7)
  )
  assert (depth.kind, depth.kernel_shape) == (
    "depthwise_conv2d",
    (3, 3, 8, 1),
  )
  assert depth.applications == 9 * 7
  assert wide.applications == 9 * 5
  assert wide.activation == "swish"
  assert (last.kind, last.kernel_shape, last.activation) == (
    "dense",
    (6, 5),
    None,
  )


def test_layers_may_be_listed_mixed_and_nested(model):
  expected = counting.find_layers(model)
  assert counting.find_layers(model.layers) == expected
  assert counting.find_layers([expected[0], *model.layers[3:]]) == expected
  outer = keras.Sequential([keras.Input((17, 13, 3)), small_model()])
  assert counting.find_layers(outer) == expected


def test_number_of_weights_is_that_of_keras(model):
  specs = counting.find_layers(model)
  kernels = [w for w in model.weights if len(w.shape) > 1]
  assert [spec.size for spec in specs] == [np.prod(k.shape) for k in kernels]
  stats = sparse_utils.get_stats(model, 0.0, "random")
  biases = 8 + 8 + 6 + 5
  size = sum(spec.size for spec in specs)
  assert stats.total_param_bits == 32 * (size + biases)


def test_names_of_kernels_are_understood(model):
  by_layer = sparse_utils.get_stats(model, 0.5, "random", {"first": 0})
  by_kernel = sparse_utils.get_stats(
    model, 0.5, "random", {"first/kernel:0": 0}
  )
  assert by_layer == by_kernel
  assert by_layer != sparse_utils.get_stats(model, 0.5, "random")


def test_a_model_may_know_its_layers():
  specs = [counting.LayerSpec("a", "dense", (3, 4))]
  model = types.SimpleNamespace(layer_specs=lambda: specs)
  assert counting.find_layers(model) == specs


def test_lists_hold_layers_only():
  with pytest.raises(ValueError, match="`layers` must be a list .* got 3"):
    counting.find_layers([3])


def test_unknown_sizes_are_refused():
  model = keras.Sequential(
    [keras.Input((None, None, 3)), keras.layers.Conv2D(3, 3, name="any")]
  )
  with pytest.raises(ValueError, match="`layers` .*'any'.*None"):
    counting.find_layers(model)
  layer = keras.layers.Dense(3)
  layer.build((None, 4))
  with pytest.raises(ValueError, match="`layers` must be in one model"):
    counting.find_layers([layer])


@pytest.mark.parametrize(
  "source, message",
  [
    ([], "`layers` must have a layer with a kernel, got none"),
    (5, "`layers` must be a list of layers, .* got 5"),
    (
      [counting.LayerSpec("a", "dense", (3, 4))] * 2,
      r"`layers` must have different names, got \['a'\]",
    ),
  ],
)
def test_what_has_no_layers_is_refused(source, message):
  with pytest.raises(ValueError, match=message):
    counting.find_layers(source)
