# SPDX-License-Identifier: Apache-2.0
"""Layers of the published networks, without building them.

Layers have the names of the published masks, which also key the sparsities of
`str`. If a network pads an image itself, `input_size` is the size of the padded
image.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rigl.counting.architectures.blocks import check_sizes
from rigl.counting.architectures.feedforward import mnist_fc, vgg
from rigl.counting.architectures.mobilenet import mobilenet_v1, mobilenet_v2
from rigl.counting.architectures.resnet import resnet, wide_resnet
from rigl.counting.architectures.tables import RESNETS, VGGS
from rigl.counting.specs import LayerSpec

__all__ = [
  "NETWORK_NAMES",
  "mnist_fc",
  "mobilenet_v1",
  "mobilenet_v2",
  "network",
  "resnet",
  "vgg",
  "wide_resnet",
]

NETWORK_NAMES = (
  *(f"resnet{depth}" for depth in RESNETS),
  "mobilenet_v1",
  "mobilenet_v2",
  *VGGS,
  "wrn_DEPTH_WIDTH",
  "mnist_fc",
)


def network(
  name: str, width: float = 1.0, image_size: int | None = None
) -> list[LayerSpec]:
  """The layers of a network by its name.

  >>> len(network('wrn_22_2'))
  23

  Args:
    name: `resnet50` or another depth, `mobilenet_v1`, `mobilenet_v2`, `vgg_a`,
      `vgg_16`, `vgg_19`, `wrn_22_2` or another depth and width, `mnist_fc`.
    width: factor of the number of channels or hidden units, rounded as the
      network itself does; that of `wrn_DEPTH_WIDTH` multiplies its WIDTH.
    image_size: height and width of the images; None for the published ones.

  Raises:
    ValueError: if there is no such network, or an argument is not for it.
  """
  wide = re.fullmatch(r"wrn_(\d+)_(\d+)", name)
  size = {} if image_size is None else {"image_size": image_size}
  if wide:
    depth, factor = (int(number) for number in wide.groups())
    return wide_resnet(depth, factor * width, **size)
  if name == "mnist_fc":
    side = size.get("image_size", 28)
    check_sizes(width, side, 10)
    hidden = (max(int(units * width), 1) for units in (300, 100))
    return mnist_fc((side**2, *hidden, 10))
  depths = {f"resnet{depth}": depth for depth in RESNETS}
  if name in depths:
    return resnet(depths[name], width, **size)
  if name in VGGS:
    return vgg(name, width, **size)
  makers: dict[str, Callable[..., list[LayerSpec]]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
  }
  if name not in makers:
    raise ValueError(f"`model` must be one of {NETWORK_NAMES}, got {name!r}.")
  return makers[name](width, **size)
