# SPDX-License-Identifier: Apache-2.0
"""Layers found in the graph of a forward pass."""

import keras
import layer_oracle
import pytest
import tensorflow as tf

from rigl import counting, sparse_utils
from rigl.counting import architectures, graph_layers
from rigl.layers import BatchNorm, Conv2D, Dense
from rigl.mnist.mnist_model import MnistFc


class Small(tf.Module):
  """A strided convolution, a depthwise one and a dense layer."""

  def __init__(self):
    super().__init__()
    self.conv = Conv2D(3, 3, 8, "net/conv", 0, strides=2, padding="VALID")
    self.norm = BatchNorm(8, "net/norm")
    self.depthwise = tf.Variable(
      tf.ones([3, 3, 8, 1]), name="net/depth/depthwise_weights"
    )
    self.dense = Dense(8, 5, "net/dense", 0)

  def __call__(self, images):
    images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = tf.nn.relu(self.norm(self.conv(images), training=False))
    x = tf.nn.depthwise_conv2d(x, self.depthwise, [1, 1, 1, 1], "SAME")
    return self.dense(tf.reduce_mean(x, [1, 2]))


def test_layers_of_a_module_in_the_order_of_the_forward_pass():
  conv, depth, dense = graph_layers.find_layers(Small(), [16, 10, 3])
  assert conv == counting.LayerSpec(
    "net/conv", "conv2d", (3, 3, 3, 8), (18, 12), 2, "valid"
  )
  assert depth == counting.LayerSpec(
    "net/depth",
    "depthwise_conv2d",
    (3, 3, 8, 1),
    (8, 5),
    activation=None,
    use_bias=False,
  )
  assert dense == counting.LayerSpec(
    "net/dense", "dense", (8, 5), activation=None
  )


def test_zeros_that_a_convolution_adds_belong_to_its_image():
  conv = Conv2D(3, 3, 8, "net/conv", 0, strides=2, padding="FIXED")
  (spec,) = graph_layers.find_layers(conv, [16, 10, 3])
  assert (spec.input_size, spec.padding) == ((18, 12), "valid")
  assert spec.applications == 8 * 5
  assert layer_oracle.applications(spec) == spec.applications


def test_unknown_sizes_are_refused():
  conv = Conv2D(3, 3, 8, "net/conv", 0, strides=2, padding="FIXED")
  with pytest.raises(ValueError, match="`input_size` must be .* 'net/conv'"):
    graph_layers.find_layers(conv, [None, 8, 3])


def test_layers_are_found_behind_casts():
  model = Small()

  def forward(images):
    kernel = tf.cast(model.conv.kernel, tf.bfloat16)
    return tf.nn.conv2d(tf.cast(images, tf.bfloat16), kernel, 1, "SAME")

  (spec,) = graph_layers.find_layers(forward, [4, 4, 3])
  assert (spec.name, spec.applications) == ("net/conv", 16)


def dense(name, inputs=5, outputs=5):
  return tf.Variable(tf.ones([inputs, outputs]), name=f"{name}/kernel")


def found(model, size=5):
  return {s.name: s for s in graph_layers.find_layers(model, [size])}


def test_a_bias_is_what_does_not_depend_on_the_examples():
  kernels = {name: dense(name) for name in ("none", "sum", "minus", "op")}
  bias = tf.Variable(tf.ones([5]), name="bias")

  def forward(x):
    plain = {name: x @ kernel for name, kernel in kernels.items()}
    plain["sum"] += tf.cast(bias, tf.float32)
    plain["minus"] -= bias * 2
    plain["op"] = tf.nn.bias_add(plain["op"], bias)
    return [y * 3 for y in plain.values()]

  biased = {name: spec.use_bias for name, spec in found(forward).items()}
  assert biased == {"none": False, "sum": True, "minus": True, "op": True}


@pytest.mark.parametrize(
  "function, activation",
  [
    (tf.nn.relu, "relu"),
    (tf.nn.relu6, "relu"),
    (tf.nn.sigmoid, "sigmoid"),
    (lambda x: x * tf.nn.sigmoid(x), "swish"),
    (lambda x: tf.nn.sigmoid(x) * x, "swish"),
    (tf.nn.tanh, None),
    (lambda x: x + 1.0, None),
  ],
)
def test_activation_of_a_layer(function, activation):
  kernel = dense("a")
  spec = found(lambda x: function(x @ kernel))["a"]
  assert spec.activation == activation


def test_a_gate_is_no_swish():
  value, gate = dense("value"), dense("gate")
  specs = found(lambda x: (x @ value) * tf.nn.sigmoid(x @ gate))
  assert specs["value"].activation is None
  assert specs["gate"].activation == "sigmoid"


def test_what_follows_a_sum_counts_once_with_the_last_layer():
  shortcut, branch = dense("shortcut"), dense("branch")
  bias = tf.Variable(tf.ones([5]), name="bias")

  def forward(x):
    both = x @ shortcut + x @ branch
    # Two operations use the sum.
    return tf.nn.relu(both + bias), both * 2

  specs = found(forward)
  assert [*specs] == ["shortcut", "branch"]
  assert (specs["shortcut"].activation, specs["shortcut"].use_bias) == (
    None,
    False,
  )
  assert (specs["branch"].activation, specs["branch"].use_bias) == (
    "relu",
    True,
  )


def test_find_layers_takes_any_model_with_an_input_shape():
  model = Small()
  specs = counting.find_layers(model, [16, 10, 3])
  assert specs == graph_layers.find_layers(model, [16, 10, 3])
  with pytest.raises(ValueError, match="or come with an `input_shape`, got"):
    counting.find_layers(model)


def test_layers_have_the_given_names():
  kernel = dense("scope/a/a")
  (spec,) = graph_layers.find_layers(
    lambda x: x @ kernel, [5], names={kernel.name: "scope/a"}
  )
  assert spec.name == "scope/a"


def test_mnist_network_knows_its_layers():
  model = MnistFc(784, 0)
  specs = model.layer_specs()
  assert specs == architectures.network("mnist_fc")
  assert set(model.kernels) == {spec.name for spec in specs}
  assert sparse_utils.get_stats(model, 0.0, "random").total_param_bits == (
    32 * (266_200 + 410)
  )


def test_transposed_matrices_are_turned():
  kernel = tf.Variable(tf.ones([5, 7]), name="out/kernel")
  (spec,) = graph_layers.find_layers(
    lambda x: tf.linalg.matmul(x, kernel, transpose_b=True), [7]
  )
  assert spec.kernel_shape == (7, 5)


def test_products_without_a_variable_are_no_layers():
  with pytest.raises(ValueError, match="`model` must have a layer"):
    graph_layers.find_layers(
      lambda x: tf.linalg.matmul(x, x, transpose_b=True), [7]
    )


def test_graph_and_layers_of_a_keras_model_agree():
  inputs = keras.Input((20, 20, 3))
  x = keras.layers.Conv2D(4, 5, 2, activation="relu", name="a")(inputs)
  x = keras.layers.DepthwiseConv2D(3, 1, "same", name="b")(x)
  x = keras.layers.Activation("relu")(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  model = keras.Model(inputs, keras.layers.Dense(3, "relu", name="c")(x))
  graph = graph_layers.find_layers(
    lambda images: model(images, training=False), [20, 20, 3]
  )
  found = counting.find_layers(model)
  assert [vars(spec) | {"output_size": None} for spec in found] == [
    vars(spec) for spec in graph
  ]
  assert [n.applications for n in found] == [n.applications for n in graph]
