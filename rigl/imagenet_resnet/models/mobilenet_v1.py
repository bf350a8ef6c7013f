"""MobileNet-v1 (Howard et al., 2017, https://arxiv.org/abs/1704.04861)."""

from __future__ import annotations

import tensorflow as tf

from rigl.counting.architectures import tables
from rigl.imagenet_resnet.models.builder import Builder
from rigl.imagenet_resnet.models.mobilenet_layers import MobileNet
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.types import Tensor


class MobileNetV1(MobileNet):
  """MobileNet-v1, with ReLU; depthwise kernels are never sparsified.

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
