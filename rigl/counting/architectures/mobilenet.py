# SPDX-License-Identifier: Apache-2.0
"""MobileNets of ImageNet."""

from __future__ import annotations

import math

from rigl.counting.architectures import tables
from rigl.counting.architectures.blocks import (
  SCOPE,
  check_sizes,
  convolution,
  dense,
  depthwise,
  half,
  padded_convolution,
)
from rigl.counting.specs import LayerSpec


def mobilenet_v1(
  width: float = 1.0, image_size: int = 224, classes: int = 1000
) -> list[LayerSpec]:
  """MobileNet-v1 (Howard et al., 2017, https://arxiv.org/abs/1704.04861).

  >>> len(mobilenet_v1())
  28

  Args:
    width: factor of the number of channels; rounded to multiples of 8.
    image_size: height and width of the images.
    classes: number of outputs.

  Raises:
    ValueError: if an argument is out of its range.
  """
  check_sizes(width, image_size, classes)
  inputs, size = tables.mobilenet_first(width), half(image_size)
  layers = [
    padded_convolution(f"{SCOPE}/initial_conv", 3, 3, inputs, image_size)
  ]
  for block, (channels, stride) in enumerate(tables.MOBILENET_V1):
    outputs = tables.mobilenet_channels(block, channels, width)
    layers.append(depthwise(block, inputs, size, stride))
    size = math.ceil(size / stride)
    name = f"{SCOPE}/contraction_1x1_{block}"
    layers.append(convolution(name, 1, inputs, outputs, size))
    inputs = outputs
  layers.append(dense(f"{SCOPE}/final_dense", inputs, classes))
  return layers


def mobilenet_v2(
  width: float = 1.0,
  image_size: int = 224,
  classes: int = 1000,
  expansion: float = 6.0,
) -> list[LayerSpec]:
  """MobileNet-v2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381).

  >>> len(mobilenet_v2())
  53

  Args:
    width: factor of the number of channels; rounded to multiples of 8.
    image_size: height and width of the images.
    classes: number of outputs.
    expansion: factor of the number of channels inside a block.

  Raises:
    ValueError: if an argument is out of its range.
  """
  check_sizes(width, image_size, classes)
  if not 0 < expansion < math.inf:
    raise ValueError(
      f"`expansion` must be positive and finite, got {expansion}."
    )
  inputs, size = tables.mobilenet_first(width), half(image_size)
  layers = [
    padded_convolution(f"{SCOPE}/initial_conv", 3, 3, inputs, image_size)
  ]
  for block, (channels, stride) in enumerate(tables.MOBILENET_V2):
    outputs = tables.mobilenet_channels(block, channels, width)
    inner = tables.mobilenet_v2_inside(block, inputs, expansion)
    if block:
      name = f"{SCOPE}/expand_1x1_{block}"
      layers.append(convolution(name, 1, inputs, inner, size))
    layers.append(depthwise(block, inner, size, stride))
    size = math.ceil(size / stride)
    name = f"{SCOPE}/contraction_1x1_{block}"
    layers.append(convolution(name, 1, inner, outputs, size, 1, None))
    inputs = outputs
  outputs = tables.mobilenet_v2_last(width)
  name = f"{SCOPE}/final_1x1_conv"
  layers.append(convolution(name, 1, inputs, outputs, size))
  layers.append(dense(f"{SCOPE}/final_dense", outputs, classes))
  return layers
