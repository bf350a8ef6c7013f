# SPDX-License-Identifier: Apache-2.0
"""The MobileNets against their definition, written down once more."""

import numpy as np
import pytest
import tensorflow as tf

from rigl.counting.architectures.tables import make_divisible
from rigl.imagenet_resnet.models.factory import create_model

V1_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
V2_STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)


class Definition:
  """A MobileNet in evaluation, from the values of its variables by name."""

  def __init__(self, values):
    self.values = {k.removeprefix("resnet_model/"): v for k, v in values}
    self.num_norms = 0

  def conv(self, images, name, strides=1, relu=True):
    kernel = self.values[name]
    size = kernel.shape[0]
    pad = [(size - 1) // 2, size // 2]
    images = tf.pad(images, [[0, 0], pad, pad, [0, 0]])
    if "depthwise" in name:
      steps = [1, strides, strides, 1]
      images = tf.nn.depthwise_conv2d(images, kernel, steps, "VALID")
    else:
      images = tf.nn.conv2d(images, kernel, strides, "VALID")
    return self.norm(images, relu)

  def norm(self, images, relu):
    number = f"_{self.num_norms}" if self.num_norms else ""
    self.num_norms += 1
    gamma, beta, mean, variance = (
      self.values[f"batch_normalization{number}/{name}"]
      for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    images = gamma * (images - mean) / tf.sqrt(variance + 1e-5) + beta
    return tf.nn.relu(images) if relu else images

  def logits(self, images):
    features = tf.reduce_mean(images, [1, 2])
    weights = self.values["final_dense/weights"]
    return features @ weights + self.values["final_dense/biases"]

  def v1(self, images):
    images = self.conv(images, "initial_conv/kernel", 2)
    for i, strides in enumerate(V1_STRIDES):
      name = f"depthwise_nxn_{i}/depthwise_weights"
      images = self.conv(images, name, strides)
      images = self.conv(images, f"contraction_1x1_{i}/weights")
    return self.logits(images)

  def v2(self, images):
    images = self.conv(images, "initial_conv/kernel", 2)
    for i, strides in enumerate(V2_STRIDES):
      inputs = images
      if i:
        images = self.conv(images, f"expand_1x1_{i}/weights")
      name = f"depthwise_nxn_{i}/depthwise_weights"
      images = self.conv(images, name, strides)
      name = f"contraction_1x1_{i}/weights"
      images = self.conv(images, name, relu=False)
      if inputs.shape == images.shape:
        images += inputs
    images = self.conv(images, "final_1x1_conv/weights")
    return self.logits(images)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("width", [0.25, 0.5])
def test_logits_are_those_of_the_definition(version, width):
  model = create_model(f"mobilenet_{version}", width=width, num_classes=9)
  rng = np.random.default_rng(0)
  for name, variable in model.named_variables.items():
    if len(variable.shape) == 1:  # So that all of them matter.
      low, high = (0.5, 1.5) if "variance" in name else (-0.5, 1.0)
      variable.assign(rng.uniform(low, high, variable.shape))
  values = [(k, v.numpy()) for k, v in model.named_variables.items()]
  images = rng.normal(size=(2, 65, 65, 3)).astype(np.float32)
  expected = getattr(Definition(values), version)(images).numpy()
  np.testing.assert_allclose(
    model(images), expected, rtol=1e-3, atol=1e-3 * np.std(expected)
  )


@pytest.mark.parametrize(
  ("channels", "divisor", "expected"),
  [
    (3, 8, 8),
    (11.2, 8, 16),
    (12, 8, 16),
    (22.4, 8, 24),
    (16, 8, 16),
    (5.6, 1, 6),
    (19.2, 1, 19),
    (0.2, 1, 1),
  ],
)
def test_channels_are_rounded_but_lose_at_most_a_tenth(
  channels, divisor, expected
):
  assert make_divisible(channels, divisor) == expected
  assert expected >= 0.9 * channels


def test_channels_of_all_but_the_first_block_are_multiples_of_eight():
  for architecture in ("mobilenet_v1", "mobilenet_v2"):
    specs = create_model(architecture, width=0.35).layer_specs()
    outputs = {s.name.split("/")[1]: s.kernel_shape[3] for s in specs[:-1]}
    first = outputs.pop("contraction_1x1_0")
    assert first == (22 if architecture == "mobilenet_v1" else 6)
    channels = [n for name, n in outputs.items() if "depthwise" not in name]
    assert all(n % 8 == 0 for n in channels)


def test_expansion_factor_multiplies_the_inside_of_blocks():
  model = create_model("mobilenet_v2", expansion_factor=3.0)
  shapes = {k.split("/")[1]: v.shape for k, v in model.kernels.items()}
  assert shapes["expand_1x1_1"] == (1, 1, 16, 48)
  assert shapes["expand_1x1_16"] == (1, 1, 160, 480)
  assert shapes["contraction_1x1_0"] == (1, 1, 32, 16)
