# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from rigl.layers import Conv2D, DepthwiseConv2D


def images_of(size, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(2, size, size, channels)).astype(np.float32)


def convolved(images, kernel, strides):
  """The definition, with (size - 1) // 2 zeros before and the rest after."""
  size = kernel.shape[0]
  before = (size - 1) // 2
  pad = (before, size - 1 - before)
  padded = np.pad(images, [(0, 0), pad, pad, (0, 0)])
  outputs = -(-images.shape[1] // strides)
  result = np.zeros((len(images), outputs, outputs, kernel.shape[-1]))
  for row in range(outputs):
    for column in range(outputs):
      window = padded[
        :,
        row * strides : row * strides + size,
        column * strides : column * strides + size,
      ]
      result[:, row, column] = np.einsum("nhwi,hwio->no", window, kernel)
  return result


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("pixels", [8, 9])
def test_fixed_padding_does_not_depend_on_the_size_of_the_image(
  size, strides, pixels
):
  layer = Conv2D(size, 3, 4, "conv", 0, strides, padding="FIXED")
  images = images_of(pixels)
  expected = convolved(images, layer.kernel.numpy(), strides)
  np.testing.assert_allclose(layer(images), expected, rtol=1e-4, atol=1e-5)


def test_padding_keeps_no_gradient_from_fast_kernels():
  layer = Conv2D(3, 3, 4, "conv", 0, strides=2, padding="FIXED")

  @tf.function
  def gradients(images):
    with tf.GradientTape() as tape:
      tape.watch([images, layer.kernel])
      outputs = layer(images)
    return tape.gradient(outputs, [images, layer.kernel])

  graph = gradients.get_concrete_function(tf.constant(images_of(8))).graph
  paddings = {
    operation.type: operation.get_attr("padding")
    for operation in graph.get_operations()
    if operation.type.startswith("Conv2D")
  }
  # What is `EXPLICIT` is not computed by oneDNN.
  assert paddings == {
    "Conv2D": b"VALID",
    "Conv2DBackpropInput": b"VALID",
    "Conv2DBackpropFilter": b"VALID",
  }


@pytest.mark.parametrize("strides", [1, 2])
def test_depthwise_convolution_keeps_channels_apart(strides):
  layer = DepthwiseConv2D(3, 3, "conv", 0, strides, padding="FIXED")
  assert layer.kernel.name == "conv/depthwise_weights:0"
  images, kernel = images_of(8), layer.kernel.numpy()
  assert kernel.shape == (3, 3, 3, 1)
  outputs = layer(images).numpy()
  for channel in range(3):
    one = slice(channel, channel + 1)
    expected = convolved(images[..., one], kernel[:, :, one], strides)
    np.testing.assert_allclose(
      outputs[..., one], expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID", "FIXED"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_channels_first_computes_the_same(padding, depthwise):
  def make(data_format):
    arguments = dict(strides=2, padding=padding, data_format=data_format)
    if depthwise:
      return DepthwiseConv2D(3, 3, "conv", 0, **arguments)
    return Conv2D(3, 3, 4, "conv", 0, bias_name="bias", **arguments)

  images = images_of(9)
  expected = make("NHWC")(images)
  # TensorFlow's own CPU kernels take channels last only.
  first = tf.function(make("NCHW"), jit_compile=True)
  outputs = first(np.transpose(images, [0, 3, 1, 2]))
  np.testing.assert_allclose(
    np.transpose(outputs, [0, 2, 3, 1]), expected, rtol=1e-4, atol=1e-5
  )


def test_biases_are_made_on_request_and_added():
  layer = Conv2D(3, 3, 4, "conv", 0, kernel_name="k", bias_name="b")
  assert {v.name for v in layer.variables} == {"conv/k:0", "conv/b:0"}
  before = layer(images_of(5))
  layer.bias.assign([1.0, 2.0, 3.0, 4.0])
  np.testing.assert_allclose(
    layer(images_of(5)) - before,
    np.broadcast_to([1.0, 2.0, 3.0, 4.0], before.shape),
    atol=1e-5,
  )
  assert len(Conv2D(3, 3, 4, "conv", 0).variables) == 1


def test_type_of_the_inputs_is_that_of_the_outputs_and_not_of_variables():
  for layer in (Conv2D(3, 3, 4, "a", 0), DepthwiseConv2D(3, 3, "b", 0)):
    images = tf.cast(images_of(5), tf.bfloat16)
    with tf.GradientTape() as tape:
      outputs = layer(images)
      loss = tf.reduce_sum(tf.cast(outputs, tf.float32))
    assert outputs.dtype == tf.bfloat16
    assert layer.kernel.dtype == tf.float32
    assert tape.gradient(loss, layer.kernel).dtype == tf.float32


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"padding": "same"}, "`padding` must be one of .*got 'same'"),
    ({"data_format": "NWHC"}, "`data_format` must be one of .*got 'NWHC'"),
  ],
)
def test_unknown_words_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    Conv2D(3, 3, 4, "conv", 0, **arguments)
  with pytest.raises(ValueError, match=message):
    DepthwiseConv2D(3, 3, "conv", 0, **arguments)
