"""MobileNet-v2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381)."""

from __future__ import annotations

import tensorflow as tf

from rigl.counting.architectures import tables
from rigl.imagenet_resnet.models.builder import Builder, ConvNorm
from rigl.imagenet_resnet.models.mobilenet_layers import MobileNet
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.types import Tensor


class MobileNetV2(MobileNet):
  """MobileNet-v2, with ReLU as published (not ReLU6).

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
