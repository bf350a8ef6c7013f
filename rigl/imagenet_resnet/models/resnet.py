# SPDX-License-Identifier: Apache-2.0
"""ResNet v1 (He et al., 2015, https://arxiv.org/abs/1512.03385).

The stride of a bottleneck is on its 3x3 convolution, and the last batch
normalisation of a block starts at zero, so that a block starts as its shortcut
(Goyal et al., 2017).
"""

from __future__ import annotations

import tensorflow as tf

from rigl import layers
from rigl.counting.architectures import tables
from rigl.imagenet_resnet.models.builder import Builder
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.types import Tensor


class ResNet(ImageModel):
  """ResNet v1 for 18, 34, 50, 101, 152 or 200 layers.

  Args:
    depth: number of layers.
    settings: settings of the model.

  Raises:
    ValueError: if there is no ResNet of that depth.
  """

  def __init__(
    self, depth: int = 50, settings: ModelSettings | None = None
  ) -> None:
    if depth not in tables.RESNETS:
      raise ValueError(
        f"`depth` must be one of {[*tables.RESNETS]}, got {depth}."
      )
    super().__init__("resnet_model", settings or ModelSettings())
    builder = self._builder
    channels = int(self.settings.channels(64))
    self.initial = builder.conv_norm(
      "initial_conv",
      7,
      3,
      channels,
      2,
      prunable=bool(self.settings.prune_first_layer),
    )
    kind = "bottleneck" if depth >= tables.FIRST_BOTTLENECK else "residual"
    self.blocks = []
    for group, size in enumerate(tables.RESNETS[depth], start=1):
      filters = int(self.settings.channels(tables.RESNET_CHANNELS[group - 1]))
      for index in range(size):
        block = Block(builder, kind, group, index, channels, filters)
        self.blocks.append(block)
        channels = block.channels
    last = "final_dense"
    self.final_dense = builder.dense(
      last,
      channels,
      last if self.settings.prune_last_layer else f"{last}/{last}",
      layers.random_normal(0.01),
    )

  def _features(self, images: Tensor, training: bool) -> Tensor:
    images = self.initial(images, training)
    images = tf.nn.max_pool2d(
      images, 3, 2, "SAME", data_format=self.settings.layer_format
    )
    for block in self.blocks:
      images = block(images, training)
    return images

  def _logits(self, features: Tensor) -> Tensor:
    return self.final_dense(features)


class Block(tf.Module):
  """Two (`residual`) or three (`bottleneck`) convolutions and a shortcut.

  Args:
    builder: makes the layers.
    kind: `residual` or `bottleneck`.
    group: number of the group, from 1.
    index: number of the block in its group; block 0 has a projection in its
      shortcut and, but for group 1, halves the image.
    inputs: number of input channels.
    filters: number of channels of the 3x3 convolutions.
  """

  def __init__(
    self,
    builder: Builder,
    kind: str,
    group: int,
    index: int,
    inputs: int,
    filters: int,
  ) -> None:
    ending = f"block_group{group}_{index}_1"
    if index == 0:
      ending = f"block_group_projection_block_group{group}"
    super().__init__(name=ending)
    strides = 2 if index == 0 and group > 1 else 1
    if kind == "residual":
      convolutions = [(3, filters, strides), (3, filters, 1)]
    else:
      convolutions = [(1, filters, 1), (3, filters, strides)]
      convolutions.append((1, 4 * filters, 1))
    self.channels = convolutions[-1][1]
    self.projection = None
    if index == 0:
      self.projection = builder.conv_norm(
        f"{kind}_projection_{ending}",
        1,
        inputs,
        self.channels,
        strides,
        relu=False,
      )
    self.convolutions = []
    for number, (size, outputs, step) in enumerate(convolutions, start=1):
      last = number == len(convolutions)
      self.convolutions.append(
        builder.conv_norm(
          f"{kind}_{number}_{ending}",
          size,
          inputs,
          outputs,
          step,
          relu=not last,
          gamma=0.0 if last else 1.0,
        )
      )
      inputs = outputs

  def __call__(self, images: Tensor, training: bool) -> Tensor:
    """Maps images to images with `channels` channels."""
    shortcut = images
    if self.projection is not None:
      shortcut = self.projection(images, training)
    for convolution in self.convolutions:
      images = convolution(images, training)
    return tf.nn.relu(images + shortcut)
