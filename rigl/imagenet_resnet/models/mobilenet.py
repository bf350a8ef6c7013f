# SPDX-License-Identifier: Apache-2.0
"""MobileNet v1 and v2.

Howard et al., 2017, https://arxiv.org/abs/1704.04861, and Sandler et al., 2018,
https://arxiv.org/abs/1801.04381. Both have ReLU, as published with RigL, and
depthwise kernels that are never sparsified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from rigl import layers
from rigl.counting.architectures import tables
from rigl.imagenet_resnet.models.builder import Builder, ConvNorm
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.types import Tensor


class MobileNet(ImageModel):
  """Base class of both versions: all but the blocks, `self.blocks`."""

  blocks: Sequence[Callable[[Tensor, bool], Tensor]]
  initial: ConvNorm
  final_dense: layers.Dense

  def _make_first(self) -> int:
    """Makes the first convolution; returns the number of its channels."""
    channels = tables.mobilenet_first(self.settings.channels(1))
    self.initial = self._builder.conv_norm(
      "initial_conv",
      3,
      3,
      channels,
      2,
      prunable=bool(self.settings.prune_first_layer),
      path="initial_conv",
      kernel_name="kernel",
    )
    return channels

  def _make_last(self, inputs: int) -> None:
    """Makes the last layer, whose names depend on whether it is masked."""
    masked = self.settings.prune_last_layer
    self.final_dense = self._builder.dense(
      "final_dense",
      inputs,
      "final_dense",
      layers.variance_scaling,
      *(("weights", "biases") if masked else ("kernel", "bias")),
    )

  def _features(self, images: Tensor, training: bool) -> Tensor:
    images = self.initial(images, training)
    for block in self.blocks:
      images = block(images, training)
    return images

  def _logits(self, features: Tensor) -> Tensor:
    return self.final_dense(features)


class MobileNetV1(MobileNet):
  """MobileNet-v1: separable convolutions.

  Args:
    settings: settings of the model.
  """

  def __init__(self, settings: ModelSettings | None = None) -> None:
    super().__init__("resnet_model", settings or ModelSettings())
    channels = self._make_first()
    self.blocks = []
    for index, (filters, strides) in enumerate(tables.MOBILENET_V1):
      outputs = tables.mobilenet_channels(
        index, filters, self.settings.channels(1)
      )
      self.blocks.append(
        SeparableBlock(self._builder, index, channels, outputs, strides)
      )
      channels = outputs
    self._make_last(channels)


class SeparableBlock(tf.Module):
  """A 3x3 convolution of each channel, then a 1x1 one over all channels.

  Args:
    builder: makes the layers.
    index: number of the block, from 0.
    inputs: number of input channels.
    outputs: number of output channels.
    strides: step of the 3x3 window.
  """

  def __init__(
    self, builder: Builder, index: int, inputs: int, outputs: int, strides: int
  ) -> None:
    super().__init__(name=f"block_{index}")
    self.depthwise = builder.depthwise_norm(
      f"depthwise_nxn_{index}", 3, inputs, strides
    )
    self.contraction = builder.conv_norm(
      f"contraction_1x1_{index}", 1, inputs, outputs
    )

  def __call__(self, images: Tensor, training: bool) -> Tensor:
    """Maps images to images."""
    return self.contraction(self.depthwise(images, training), training)


class MobileNetV2(MobileNet):
  """MobileNet-v2: inverted residuals, with ReLU instead of ReLU6.

  Args:
    expansion_factor: how many times more channels the inside of a block has;
      the first block has no expansion.
    settings: settings of the model.

  Raises:
    ValueError: if `expansion_factor` is not positive.
  """

  def __init__(
    self, expansion_factor: float = 6.0, settings: ModelSettings | None = None
  ) -> None:
    if expansion_factor <= 0:
      raise ValueError(
        f"`expansion_factor` must be > 0, got {expansion_factor}."
      )
    super().__init__("resnet_model", settings or ModelSettings())
    channels = self._make_first()
    width = self.settings.channels(1)
    self.blocks = []
    for index, (filters, strides) in enumerate(tables.MOBILENET_V2):
      outputs = tables.mobilenet_channels(index, filters, width)
      inside = tables.mobilenet_v2_inside(index, channels, expansion_factor)
      self.blocks.append(
        InvertedResidual(
          self._builder, index, channels, inside, outputs, strides
        )
      )
      channels = outputs
    last = tables.mobilenet_v2_last(width)
    self.final: ConvNorm = self._builder.conv_norm(
      "final_1x1_conv", 1, channels, last
    )
    self._make_last(last)

  def _features(self, images: Tensor, training: bool) -> Tensor:
    return self.final(super()._features(images, training), training)


class InvertedResidual(tf.Module):
  """Expansion to many channels, a 3x3 convolution of each, contraction.

  The input is added if the output has its shape.

  Args:
    builder: makes the layers.
    index: number of the block, from 0.
    inputs: number of input channels.
    inside: number of channels of the 3x3 convolution. The first block has no
      expansion to them: they are its `inputs`.
    outputs: number of output channels.
    strides: step of the 3x3 window.
  """

  def __init__(
    self,
    builder: Builder,
    index: int,
    inputs: int,
    inside: int,
    outputs: int,
    strides: int,
  ) -> None:
    super().__init__(name=f"block_{index}")
    self._residual = strides == 1 and inputs == outputs
    self.expansion = None
    if index:
      self.expansion = builder.conv_norm(
        f"expand_1x1_{index}", 1, inputs, inside
      )
    self.depthwise = builder.depthwise_norm(
      f"depthwise_nxn_{index}", 3, inside, strides
    )
    self.contraction = builder.conv_norm(
      f"contraction_1x1_{index}", 1, inside, outputs, relu=False
    )

  def __call__(self, images: Tensor, training: bool) -> Tensor:
    """Maps images to images."""
    outputs = images
    if self.expansion is not None:
      outputs = self.expansion(outputs, training)
    outputs = self.contraction(self.depthwise(outputs, training), training)
    return outputs + images if self._residual else outputs
