# SPDX-License-Identifier: Apache-2.0
"""Descriptions of single layers of the published networks."""

from __future__ import annotations

import math

from rigl.counting.specs import LayerSpec

# Scope of the variables of all published networks but VGG.
SCOPE = "resnet_model"


def convolution(
  name: str,
  window: int,
  inputs: int,
  outputs: int,
  size: int,
  stride: int = 1,
  activation: str | None = "relu",
  use_bias: bool = True,
) -> LayerSpec:
  """A square convolution of a square image, with `same` padding."""
  shape = (window, window, inputs, outputs)
  return LayerSpec(
    name, "conv2d", shape, size, stride, "same", activation, use_bias
  )


def projection(
  name: str,
  inputs: int,
  outputs: int,
  size: int,
  stride: int,
  use_bias: bool = True,
) -> LayerSpec:
  """A 1x1 convolution on a block's shortcut, without a ReLU of its own."""
  return convolution(name, 1, inputs, outputs, size, stride, None, use_bias)


def padded_convolution(
  name: str, window: int, inputs: int, outputs: int, size: int
) -> LayerSpec:
  """A convolution of stride 2 that halves an image with zeros around it."""
  shape = (window, window, inputs, outputs)
  return LayerSpec(
    name, "conv2d", shape, _padded(size, window), 2, padding="valid"
  )


def depthwise(block: int, channels: int, size: int, stride: int) -> LayerSpec:
  """The 3x3 depthwise convolution of a MobileNet's block."""
  name = f"{SCOPE}/depthwise_nxn_{block}"
  shape = (3, 3, channels, 1)
  if stride == 1:
    return LayerSpec(name, "depthwise_conv2d", shape, size)
  return LayerSpec(
    name, "depthwise_conv2d", shape, _padded(size, 3), 2, padding="valid"
  )


def _padded(size: int, window: int) -> int:
  """Size of an image that is padded for a window at each of its pixels."""
  return size + window - 1


def dense(name: str, inputs: int, outputs: int) -> LayerSpec:
  """The last layer, which returns logits."""
  return LayerSpec(name, "dense", (inputs, outputs), activation=None)


def half(size: int) -> int:
  """Size of an image after a stride of 2."""
  return math.ceil(size / 2)


def check_sizes(width: float, image_size: int, classes: int) -> None:
  """Raises a ValueError that names the argument which is out of its range."""
  if not 0 < width < math.inf:
    raise ValueError(f"`width` must be positive and finite, got {width}.")
  for name, value in (("image_size", image_size), ("classes", classes)):
    if value < 1:
      raise ValueError(f"`{name}` must be at least 1, got {value}.")
