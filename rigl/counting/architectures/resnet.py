# SPDX-License-Identifier: Apache-2.0
"""Residual networks of ImageNet and of CIFAR-10."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rigl.counting.architectures import tables
from rigl.counting.architectures.blocks import (
  SCOPE,
  check_sizes,
  convolution,
  dense,
  half,
  padded_convolution,
  projection,
)
from rigl.counting.specs import LayerSpec


def resnet(
  depth: int = 50,
  width: float = 1.0,
  image_size: int = 224,
  classes: int = 1000,
) -> list[LayerSpec]:
  """ResNet of ImageNet (He et al., 2015, https://arxiv.org/abs/1512.03385).

  >>> sum(layer.size for layer in resnet(50))
  25502912

  Args:
    depth: 18, 34, 50, 101, 152 or 200.
    width: factor of the number of channels; rounded down.
    image_size: height and width of the images.
    classes: number of outputs.

  Raises:
    ValueError: if an argument is out of its range.
  """
  if depth not in tables.RESNETS:
    raise ValueError(f"`depth` must be in {[*tables.RESNETS]}, got {depth}.")
  check_sizes(width, image_size, classes)
  channels = max(int(64 * width), 1)
  name = f"{SCOPE}/initial_conv"
  layers = [padded_convolution(name, 7, 3, channels, image_size)]
  size, inputs = half(half(image_size)), channels
  for group, blocks in enumerate(tables.RESNETS[depth]):
    filters = max(int(tables.RESNET_CHANNELS[group] * width), 1)
    for block in range(blocks):
      stride = 2 if group and not block else 1
      end = f"block_group{group + 1}_{block}_1"
      if not block:
        end = f"block_group_projection_block_group{group + 1}"
      make = _bottleneck if depth >= tables.FIRST_BOTTLENECK else _residual
      new = list(make(end, inputs, filters, size, stride, not block))
      layers += new
      size, inputs = math.ceil(size / stride), new[-1].outputs
  layers.append(dense(f"{SCOPE}/final_dense", inputs, classes))
  return layers


def _bottleneck(
  end: str, inputs: int, filters: int, size: int, stride: int, project: bool
) -> Iterator[LayerSpec]:
  name, outputs = f"{SCOPE}/bottleneck", 4 * filters
  if project:
    yield projection(f"{name}_projection_{end}", inputs, outputs, size, stride)
  small = math.ceil(size / stride)
  yield convolution(f"{name}_1_{end}", 1, inputs, filters, size)
  yield convolution(f"{name}_2_{end}", 3, filters, filters, size, stride)
  # Its ReLU is that after the addition.
  yield convolution(f"{name}_3_{end}", 1, filters, outputs, small)


def _residual(
  end: str, inputs: int, filters: int, size: int, stride: int, project: bool
) -> Iterator[LayerSpec]:
  name = f"{SCOPE}/residual"
  if project:
    yield projection(f"{name}_projection_{end}", inputs, filters, size, stride)
  small = math.ceil(size / stride)
  yield convolution(f"{name}_1_{end}", 3, inputs, filters, size, stride)
  yield convolution(f"{name}_2_{end}", 3, filters, filters, small)


def wide_resnet(
  depth: int = 22, width: float = 2, image_size: int = 32, classes: int = 10
) -> list[LayerSpec]:
  """WRN of CIFAR-10 (Zagoruyko & Komodakis, 2016, arXiv 1605.07146).

  Args:
    depth: 4 more than a multiple of 6.
    width: factor of the number of channels of the three groups.
    image_size: height and width of the images.
    classes: number of outputs.

  Raises:
    ValueError: if an argument is out of its range.
  """
  if depth < 10 or (depth - 4) % 6:
    raise ValueError(
      f"`depth` must be 4 more than a positive multiple of 6, got {depth}."
    )
  check_sizes(width, image_size, classes)
  inputs, size = tables.WIDE_RESNET_FIRST, image_size
  layers = [convolution(f"{SCOPE}/conv_1", 3, 3, inputs, image_size)]
  for group, (channels, stride) in enumerate(tables.WIDE_RESNET):
    outputs = max(int(channels * width), 1)
    for block in range((depth - 4) // 6):
      name = f"{SCOPE}/conv_{group + 2}_{block}"
      if inputs != outputs:
        skip = f"{SCOPE}/skip_conv_{group + 2}"
        # No batch normalisation follows it.
        layers.append(projection(skip, inputs, outputs, size, stride, False))
      layers.append(convolution(f"{name}_1", 3, inputs, outputs, size, stride))
      size, inputs, stride = math.ceil(size / stride), outputs, 1
      layers.append(convolution(f"{name}_2", 3, outputs, outputs, size))
  layers.append(dense(f"{SCOPE}/logits", inputs, classes))
  return layers
