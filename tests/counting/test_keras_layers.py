# SPDX-License-Identifier: Apache-2.0
"""Layers of Keras models of every kind; multiplications worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rigl import counting, sparse_utils

Input, layers = keras.Input, keras.layers
IS_KERAS_3 = keras.__version__.startswith("3")


def stack(shape, *parts, dtype="float32"):
  return keras.Sequential([Input(shape, dtype=dtype), *parts])


def count(model, *arguments):
  """{name: (kind, multiplications, results)} of the layers of a model."""
  return {
    n.name: (n.kind, n.size * n.applications, n.results)
    for n in counting.find_layers(model, *arguments)
  }


def with_attention(layer):
  inputs = Input((9, 16))
  return keras.Model(inputs, layer(inputs, inputs))


MODELS = {
  "Dense on vectors": (
    lambda: stack((196, 64), layers.Dense(10, name="a")),
    {"a": ("dense", 196 * 640, 1960)},
  ),
  "Conv1D": (
    lambda: stack((8, 3), layers.Conv1D(6, 3, name="a")),
    {"a": ("conv1d", 6 * 54, 36)},
  ),
  "Conv1D that sees the past": (
    lambda: stack(
      (8, 3),
      layers.Conv1D(6, 3, padding="causal", dilation_rate=2, name="a"),
    ),
    {"a": ("conv1d", 8 * 54, 48)},
  ),
  "Conv3D": (
    lambda: stack((8, 7, 6, 3), layers.Conv3D(4, 3, name="a")),
    {"a": ("conv3d", 6 * 5 * 4 * 324, 480)},
  ),
  "grouped": (
    lambda: stack((8, 8, 4), layers.Conv2D(6, 3, groups=2, name="a")),
    {"a": ("conv2d", 36 * 9 * 2 * 6, 216)},
  ),
  "dilated": (
    lambda: stack((9, 9, 4), layers.Conv2D(6, 3, dilation_rate=2, name="a")),
    {"a": ("conv2d", 25 * 9 * 4 * 6, 150)},
  ),
  "dilated and depthwise": (
    lambda: stack(
      (7, 7, 4),
      layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", name="a"),
    ),
    {"a": ("depthwise_conv2d", 49 * 36, 196)},
  ),
  "DepthwiseConv1D": (
    lambda: stack((8, 4), layers.DepthwiseConv1D(3, name="a")),
    {"a": ("depthwise_conv1d", 6 * 12, 24)},
  ),
  "SeparableConv2D": (
    lambda: stack((8, 8, 3), layers.SeparableConv2D(6, 3, name="a")),
    {
      "a": ("depthwise_conv2d", 36 * 27, 108),
      "a/pointwise_kernel": ("conv2d", 36 * 18, 216),
    },
  ),
  "SeparableConv1D": (
    lambda: stack((8, 3), layers.SeparableConv1D(6, 3, name="a")),
    {
      "a": ("depthwise_conv1d", 6 * 9, 18),
      "a/pointwise_kernel": ("conv1d", 6 * 18, 36),
    },
  ),
  "Conv1DTranspose": (
    lambda: stack((8, 3), layers.Conv1DTranspose(6, 3, strides=2, name="a")),
    {"a": ("conv1d_transpose", 8 * 54, 17 * 6)},
  ),
  "Conv2DTranspose": (
    lambda: stack(
      (8, 8, 3),
      layers.Conv2DTranspose(6, 3, strides=2, padding="same", name="a"),
    ),
    {"a": ("conv2d_transpose", 64 * 162, 256 * 6)},
  ),
  "Conv3DTranspose": (
    lambda: stack(
      (4, 4, 4, 3), layers.Conv3DTranspose(6, 3, strides=2, name="a")
    ),
    {"a": ("conv3d_transpose", 64 * 27 * 18, 729 * 6)},
  ),
  "EinsumDense": (
    lambda: stack(
      (9, 4),
      layers.EinsumDense(
        "abc,cde->abde", output_shape=(None, 3, 5), bias_axes="de", name="a"
      ),
    ),
    {"a": ("einsum", 9 * 60, 135)},
  ),
  "MultiHeadAttention": (
    lambda: with_attention(layers.MultiHeadAttention(2, 8, name="a")),
    {
      f"a/{part}": ("einsum", 9 * 256, 144)
      for part in ("query", "key", "value", "attention_output")
    },
  ),
  "Embedding": (
    lambda: stack(
      (9,),
      layers.Embedding(100, 8, name="a"),
      layers.Dense(4, name="b"),
      dtype="int32",
    ),
    {"a/embeddings": ("embedding", 0, 0), "b": ("dense", 9 * 32, 36)},
  ),
  "parameters of each value": (
    lambda: stack(
      (8, 8, 3), layers.Conv2D(4, 3, name="a"), layers.PReLU(name="b")
    ),
    {
      "a": ("conv2d", 36 * 108, 144),
      "b/alpha": ("multiplication", 144, 144),
    },
  ),
}


@pytest.mark.parametrize("name", MODELS)
def test_counts_worked_out_by_hand(name):
  make, expected = MODELS[name]
  model = make()
  assert count(model) == expected
  # All weights are counted, and biases belong to their layers.
  bits = sparse_utils.get_stats(model, 0.0, "random").total_param_bits
  assert bits == 32 * model.count_params()


# Multiplications of one step: 4 inputs, 5 units.
GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(
  "settings",
  [
    {},
    {"return_sequences": True, "go_backwards": True},
    {"unroll": True},
  ],
)
def test_recurrent_layers_count_every_step(name, settings):
  model = stack((7, 4), getattr(layers, name)(5, name="a", **settings))
  gates = GATES[name]
  multiplications = [m for _, m, _ in count(model).values()]
  assert multiplications == [7 * 4 * 5 * gates, 7 * 5 * 5 * gates]


def test_wrapped_recurrent_and_repeated_layers():
  both = stack((7, 4), layers.Bidirectional(layers.LSTM(5)))
  assert sum(m for _, m, _ in count(both).values()) == 2 * 7 * (80 + 100)
  cells = layers.RNN([layers.LSTMCell(5), layers.GRUCell(3)])
  expected = 7 * (80 + 100 + 45 + 27)
  assert sum(m for _, m, _ in count(stack((7, 4), cells)).values()) == expected
  frames = stack((7, 8, 8, 3), layers.TimeDistributed(layers.Conv2D(4, 3)))
  (counted,) = count(frames).values()
  assert counted == ("conv2d", 7 * 36 * 108, 7 * 36 * 4)
  before = stack((7, 4), layers.GRU(5, reset_after=False))
  assert sum(m for _, m, _ in count(before).values()) == 7 * (60 + 75)


def test_shared_layers_count_every_use():
  tower = layers.Dense(5, name="tower")
  one, two = Input((4,)), Input((4,))
  joined = layers.concatenate([tower(one), tower(two)])
  model = keras.Model([one, two], layers.Dense(1, name="head")(joined))
  expected = {"tower": ("dense", 40, 10), "head": ("dense", 10, 1)}
  assert count(model) == expected
  assert count(model.layers) == expected
  # Twice the operations, once the storage.
  stats = sparse_utils.get_stats(model, 0.0, "random")
  assert stats.total_flops == 2 * (20 + 15 + 5) + 10 + 9 + 1
  assert stats.total_param_bits == 32 * model.count_params()


def test_shared_layer_on_images_of_two_sizes():
  head = layers.Conv2D(2, 3, name="conv")
  small, large = Input((5, 5, 3)), Input((9, 9, 3))
  model = keras.Model([small, large], [head(small), head(large)])
  assert count(model) == {"conv": ("conv2d", (9 + 49) * 54, (9 + 49) * 2)}


def tower(name):
  return keras.Sequential(
    [Input((4,)), layers.Dense(5, name="dense")], name=name
  )


def test_layers_of_one_name_are_called_by_their_models():
  inputs = Input((4,))
  both = [tower("left")(inputs), tower("right")(inputs)]
  model = keras.Model(inputs, both)
  assert set(count(model)) == {"left/dense", "right/dense"}
  custom = {"left/dense": 0.5}
  stats = sparse_utils.get_stats(model, 0.0, "random", custom)
  assert stats.real_sparsity == 0.25
  alone = keras.Model(inputs, tower("left")(inputs))
  assert set(count(alone)) == {"dense"}


class Subclassed(keras.Model):
  def __init__(self):
    super().__init__(name="own")
    self.first = layers.Dense(5, name="first")
    self.blocks = [layers.Dense(3, name="last")]

  def call(self, inputs):
    return self.blocks[0](self.first(inputs))


def test_subclassed_models_come_with_a_shape_or_were_called():
  expected = {"first": ("dense", 20, 5), "last": ("dense", 15, 3)}
  with pytest.raises(ValueError, match="`layers` .*`input_shape`, got 'own'"):
    counting.find_layers(Subclassed())
  assert count(Subclassed(), [4]) == expected
  model = Subclassed()
  model(np.ones([6, 4]))
  assert count(model) == expected


def test_several_inputs_in_a_dict():
  inputs = {"a": Input((4,), name="a"), "b": Input((6,), name="b")}
  outputs = [layers.Dense(3, name=f"to_{k}")(inputs[k]) for k in "ab"]
  model = keras.Model(inputs, {"sum": layers.add(outputs)})
  assert count(model) == {"to_a": ("dense", 12, 3), "to_b": ("dense", 18, 3)}


def test_open_sizes_are_filled_or_named():
  model = stack((None, None, 3), layers.Conv2D(3, 3, name="any"))
  with pytest.raises(ValueError, match=r"'any'.*find_layers\(model, input_sh"):
    counting.find_layers(model)
  assert count(model, [8, 6, 3]) == {"any": ("conv2d", 24 * 81, 72)}
  with pytest.raises(ValueError, match="`input_shape` must fit"):
    counting.find_layers(model, [8, 6, 4])
  with pytest.raises(ValueError, match="`input_shape` must be 1 shapes"):
    counting.find_layers(model, [[8, 6, 3], [8, 6, 3]])
  words = stack((None,), layers.Embedding(9, 4), layers.LSTM(5), dtype="int32")
  assert sum(m for _, m, _ in count(words, [11]).values()) == 11 * (80 + 100)


def test_fixed_batches_count_per_example():
  inputs = Input(batch_shape=(3, 7, 4))
  recurrent = layers.LSTM(5, stateful=True)
  model = keras.Model(inputs, recurrent(inputs))
  assert sum(m for _, m, _ in count(model).values()) == 7 * (80 + 100)


def test_what_surrounds_layers_makes_no_difference():
  model = stack(
    (4,),
    layers.Lambda(lambda x: x * 2),
    layers.GaussianNoise(0.1),
    layers.Dense(3, name="a", trainable=False),
    layers.Dropout(0.5),
  )
  model.trainable = False
  assert count(model) == {"a": ("dense", 12, 3)}


def test_biases_and_activations_are_those_of_the_graph():
  model = stack(
    (8, 8, 3),
    layers.Conv2D(4, 3, use_bias=False, name="normed"),
    layers.BatchNormalization(),
    layers.ReLU(),
    layers.Conv2D(4, 3, use_bias=False, name="bare"),
    layers.Conv2D(4, 3, activation="swish", name="swish"),
  )
  found = {
    n.name: (n.use_bias, n.activation) for n in counting.find_layers(model)
  }
  assert found == {
    "normed": (True, "relu"),
    "bare": (False, None),
    "swish": (True, "swish"),
  }


def test_layers_that_no_model_has_called_are_refused():
  with pytest.raises(ValueError, match="`layers` must be in one model .*'a'"):
    counting.find_layers([layers.Dense(3, name="a")])


@pytest.mark.skipif(not IS_KERAS_3, reason="Keras 3 only")
def test_grouped_queries_share_keys_and_values():
  model = with_attention(layers.GroupQueryAttention(8, 4, 2, name="a"))
  assert [m for _, m, _ in count(model).values()] == [
    9 * 16 * 8 * heads for heads in (4, 2, 2, 4)
  ]


@pytest.mark.skipif(not IS_KERAS_3, reason="Keras 3 only")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantised_models_have_the_kernels_they_stand_for(mode):
  model = stack((16,), layers.Dense(8, name="a"), layers.Dense(4, name="b"))
  plain = counting.find_layers(model)
  model.quantize(mode)
  assert counting.find_layers(model) == plain


@pytest.mark.skipif(not IS_KERAS_3, reason="Keras 3 only")
def test_low_rank_updates_are_stored_beside_their_kernel():
  model = stack((16,), layers.Dense(8, name="a"))
  model.layers[0].enable_lora(2)
  assert [m for _, m, _ in count(model).values()] == [128, 0, 0]


def test_functions_around_models_count_like_them():
  model = stack((4,), layers.Dense(3, name="a"))
  (spec,) = counting.find_layers(tf.function(model), [4])
  assert (spec.kernel_shape, spec.applications) == ((4, 3), 1)
