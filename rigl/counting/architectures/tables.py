# SPDX-License-Identifier: Apache-2.0
"""Block tables of the published networks: repeats, channels, rounding.

The models themselves and the lists of their layers share these tables.
"""

from __future__ import annotations

# Blocks in each group, by depth. From 50 layers they are bottlenecks.
RESNETS = {
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
  200: (3, 24, 36, 3),
}
RESNET_CHANNELS = (64, 128, 256, 512)
FIRST_BOTTLENECK = 50

# (channels, stride) of each block.
MOBILENET_V1 = (
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
MOBILENET_V2 = (
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
_MOBILENET_FIRST = 32
_MOBILENET_V2_LAST = 1280

# Convolutions in each group.
VGGS = {
  "vgg_a": (1, 1, 2, 2, 2),
  "vgg_16": (2, 2, 3, 3, 3),
  "vgg_19": (2, 2, 4, 4, 4),
}
VGG_CHANNELS = (64, 128, 256, 512, 512)

# (channels per unit of width, stride) of each group of a wide ResNet.
WIDE_RESNET = ((16, 1), (32, 2), (64, 2))
WIDE_RESNET_FIRST = 16


def make_divisible(channels: float, divisor: int = 8) -> int:
  """Rounds to the nearest multiple, but never loses more than a tenth.

  >>> [make_divisible(n) for n in (3, 11.2, 12, 24)]
  [8, 16, 16, 24]

  Args:
    channels: number of channels.
    divisor: the result is a multiple of it.

  Returns:
    At least `divisor`.
  """
  rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
  return rounded if rounded >= 0.9 * channels else rounded + divisor


def mobilenet_first(width: float) -> int:
  """Channels of a MobileNet's first convolution."""
  return make_divisible(_MOBILENET_FIRST * width)


def mobilenet_channels(block: int, channels: int, width: float) -> int:
  """Channels that a MobileNet's block returns.

  Args:
    block: number of the block, from 0. Channels of all but the first are
      multiples of 8.
    channels: its channels at width 1.
    width: factor of the number of channels.
  """
  return make_divisible(channels * width, 8 if block else 1)


def mobilenet_v2_inside(block: int, inputs: int, expansion: float) -> int:
  """Channels inside a block of MobileNet-v2; the first has no expansion."""
  return make_divisible(inputs * expansion) if block else inputs


def mobilenet_v2_last(width: float) -> int:
  """Channels of MobileNet-v2's last convolution."""
  return max(_MOBILENET_V2_LAST, int(_MOBILENET_V2_LAST * width))
