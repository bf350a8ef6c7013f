"""MobileNets of ImageNet."""

from __future__ import annotations

import math

from rigl.counting.architectures.parts import (
  SCOPE,
  Network,
  Operation,
  check_sizes,
  convolution,
  dense,
  depthwise,
  divisible,
  half,
  padded_convolution,
)
from rigl.counting.operations import Add, GlobalAvg

# (channels, stride) of each block.
_MOBILENET_V1 = (
  (64, 1),
  (128, 2),
  (128, 1),
  (256, 2),
  (256, 1),
  (512, 2),
  *[(512, 1)] * 5,
  (1024, 2),
  (1024, 1),
)
_MOBILENET_V2 = (
  (16, 1),
  (24, 2),
  (24, 1),
  (32, 2),
  *[(32, 1)] * 2,
  (64, 2),
  *[(64, 1)] * 3,
  *[(96, 1)] * 3,
  (160, 2),
  *[(160, 1)] * 2,
  (320, 1),
)


def mobilenet_v1(
  width: float = 1.0, image: int = 224, classes: int = 1000
) -> Network:
  """MobileNet-v1 (Howard et al., 2017, https://arxiv.org/abs/1704.04861).

  >>> len(mobilenet_v1().layers)
  28

  Args:
    width: what channels are multiplied by; rounded to multiples of 8.
    image: height and width of the images.
    classes: number of outputs.

  Raises:
    ValueError: if an argument is out of its range.
  """
  check_sizes(width, image, classes)
  inputs, size = divisible(32 * width), half(image)
  layers = [padded_convolution(f"{SCOPE}/initial_conv", 3, 3, inputs, image)]
  for block, (channels, stride) in enumerate(_MOBILENET_V1):
    outputs = divisible(channels * width, 8 if block else 1)
    layers.append(depthwise(block, inputs, size, stride))
    size = math.ceil(size / stride)
    name = f"{SCOPE}/contraction_1x1_{block}"
    layers.append(convolution(name, 1, inputs, outputs, size))
    inputs = outputs
  layers.append(dense(f"{SCOPE}/final_dense", inputs, classes))
  return Network(layers, [GlobalAvg((size, size), inputs)])


def mobilenet_v2(
  width: float = 1.0,
  image: int = 224,
  classes: int = 1000,
  expansion: float = 6.0,
) -> Network:
  """MobileNet-v2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381).

  >>> len(mobilenet_v2().layers)
  53

  Args:
    width: what channels are multiplied by; rounded to multiples of 8.
    image: height and width of the images.
    classes: number of outputs.
    expansion: what the inputs of a block are multiplied by inside it.

  Raises:
    ValueError: if an argument is out of its range.
  """
  check_sizes(width, image, classes)
  if not 0 < expansion < math.inf:
    raise ValueError(f"`expansion` must be positive, got {expansion}.")
  inputs, size = divisible(32 * width), half(image)
  layers = [padded_convolution(f"{SCOPE}/initial_conv", 3, 3, inputs, image)]
  others: list[Operation] = []
  for block, (channels, stride) in enumerate(_MOBILENET_V2):
    outputs, inner = divisible(channels * width, 8 if block else 1), inputs
    if block:
      inner = int(inputs * expansion)
      name = f"{SCOPE}/expand_1x1_{block}"
      layers.append(convolution(name, 1, inputs, inner, size))
    layers.append(depthwise(block, inner, size, stride))
    size = math.ceil(size / stride)
    name = f"{SCOPE}/contraction_1x1_{block}"
    layers.append(convolution(name, 1, inner, outputs, size, 1, None))
    if stride == 1 and inputs == outputs:
      others.append(Add((size, size), outputs))
    inputs = outputs
  outputs = max(1280, divisible(1280 * width))
  name = f"{SCOPE}/final_1x1_conv"
  layers.append(convolution(name, 1, inputs, outputs, size))
  layers.append(dense(f"{SCOPE}/final_dense", outputs, classes))
  return Network(layers, [*others, GlobalAvg((size, size), outputs)])
