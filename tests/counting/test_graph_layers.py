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
    "net/conv", "conv2d", (3, 3, 3, 8), (18, 12), 2, "valid", output_size=(8, 5)
  )
  assert depth == counting.LayerSpec(
    "net/depth",
    "depthwise_conv2d",
    (3, 3, 8, 1),
    (8, 5),
    activation=None,
    output_size=(8, 5),
  )
  assert dense == counting.LayerSpec(
    "net/dense", "dense", (8, 5), activation=None
  )


def test_zeros_that_a_convolution_adds_belong_to_its_image():
  conv = Conv2D(3, 3, 8, "net/conv", 0, strides=2, padding="FIXED")
  (spec,) = graph_layers.find_layers(conv, [16, 10, 3])
  assert (spec.input_size, spec.padding) == ((18, 12), "valid")
  assert spec.positions == 8 * 5
  assert layer_oracle.positions(spec) == spec.positions


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
  assert (spec.name, spec.positions) == ("net/conv", 16)


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
  assert graph == [
    counting.LayerSpec(**{**vars(spec), "output_size": output})
    for spec, output in zip(
      counting.find_layers(model), [(8, 8), (8, 8), None], strict=True
    )
  ]
