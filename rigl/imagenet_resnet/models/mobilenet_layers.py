"""What both MobileNets share: the first and the last layer."""

from __future__ import annotations

from typing import Any

from rigl import layers
from rigl.counting.architectures import tables
from rigl.imagenet_resnet.models.builder import ConvNorm
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.types import Tensor


class MobileNet(ImageModel):
  """A MobileNet but for its blocks, `self.blocks`."""

  blocks: list[Any]
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
    names = {"kernel_name": "weights", "bias_name": "biases"}
    if not self.settings.prune_last_layer:
      names = {"kernel_name": "kernel", "bias_name": "bias"}
    self.final_dense = self._builder.dense(
      "final_dense", inputs, "final_dense", layers.variance_scaling, **names
    )

  def _features(self, images: Tensor, training: bool) -> Tensor:
    images = self.initial(images, training)
    for block in self.blocks:
      images = block(images, training)
    return images

  def _logits(self, features: Tensor) -> Tensor:
    return self.final_dense(features)
