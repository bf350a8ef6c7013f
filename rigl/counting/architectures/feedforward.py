# SPDX-License-Identifier: Apache-2.0
"""Networks without branches: VGG of ImageNet and the one of MNIST."""

from __future__ import annotations

from collections.abc import Sequence

from rigl.counting.architectures import tables
from rigl.counting.architectures.blocks import check_sizes
from rigl.counting.specs import LayerSpec


def vgg(
  name: str = "vgg_16",
  width: float = 1.0,
  image_size: int = 224,
  classes: int = 1000,
) -> list[LayerSpec]:
  """The published VGG: no biases, no batch norm, one last 1x1 convolution.

  Args:
    name: `vgg_a`, `vgg_16` or `vgg_19`.
    width: factor of the number of channels; rounded down.
    image_size: height and width of the images.
    classes: number of outputs.

  Raises:
    ValueError: if an argument is out of its range.
  """
  if name not in tables.VGGS:
    raise ValueError(f"`name` must be in {[*tables.VGGS]}, got {name!r}.")
  check_sizes(width, image_size, classes)
  layers, inputs, size = [], 3, image_size
  for group, repeats in enumerate(tables.VGGS[name]):
    outputs = max(int(tables.VGG_CHANNELS[group] * width), 1)
    for i in range(repeats):
      path = f"{name}/conv{group + 1}/conv{group + 1}_{i + 1}"
      spec = LayerSpec(
        path, "conv2d", (3, 3, inputs, outputs), size, use_bias=False
      )
      layers.append(spec)
      inputs = outputs
    size = size // 2 if group < 4 else size
  last = LayerSpec(
    f"{name}/fc8",
    "conv2d",
    (1, 1, inputs, classes),
    1,
    activation=None,
    use_bias=False,
  )
  return [*layers, last]


def mnist_fc(units: Sequence[int] = (784, 300, 100, 10)) -> list[LayerSpec]:
  """The fully connected network of MNIST.

  Args:
    units: number of inputs, and of the outputs of each layer.

  Raises:
    ValueError: if there is no layer or a number is not positive.
  """
  if len(units) < 2 or min(units) < 1:
    raise ValueError(
      f"`units` must be at least two positive numbers, got {units}."
    )
  pairs = list(zip(units[:-1], units[1:], strict=True))
  return [
    LayerSpec(
      f"layer{i + 1}",
      "dense",
      pair,
      activation="relu" if i + 1 < len(pairs) else None,
    )
    for i, pair in enumerate(pairs)
  ]
