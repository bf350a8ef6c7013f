"""What both MobileNets share: numbers of channels, first and last layer."""

from __future__ import annotations

from typing import Any

from rigl import layers
from rigl.imagenet_resnet.builder import ConvNorm
from rigl.imagenet_resnet.image_model import ImageModel

Tensor = Any


def make_divisible(channels: float, divisor: int = 8) -> int:
  """Rounds to the nearest multiple, but never loses more than a tenth.

  Args:
    channels: number of channels.
    divisor: what the result is a multiple of.

  Returns:
    At least `divisor`.

  >>> [make_divisible(n) for n in (3, 11.2, 12, 24)]
  [8, 16, 16, 24]
  """
  rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
  return rounded if rounded >= 0.9 * channels else rounded + divisor


def block_divisor(block: int) -> int:
  """What the channels of a block are multiples of; those of the first are not.

  Args:
    block: number of the block, from 0.
  """
  return 1 if block == 0 else 8


class MobileNet(ImageModel):
  """A MobileNet but for its blocks, `self.blocks`."""

  blocks: list[Any]
  initial: ConvNorm
  final_dense: layers.Dense

  def _make_first(self) -> int:
    """Makes the first convolution; returns the number of its channels."""
    channels = make_divisible(self.settings.channels(32))
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
