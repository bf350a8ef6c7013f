# SPDX-License-Identifier: Apache-2.0
"""VGG of the ImageNet script as a Keras model."""

from __future__ import annotations

import keras
from keras import layers

from rigl.counting.architectures import tables
from rigl.keras import network_layers

# A normal of the published variance 2.6 / fan_in, then cut off at two standard
# deviations; `VarianceScaling` takes the variance that is left.
_SCALE = 2.6 * 0.87962566103423978**2


def vgg(
  name: str = "vgg_16",
  num_classes: int = 1000,
  width: float = 1.0,
  image_size: int | None = 224,
  prune_last_layer: bool = True,
) -> keras.Model:
  """VGG of the ImageNet script: neither normalizations nor biases.

  Source: Simonyan & Zisserman, 2014, https://arxiv.org/abs/1409.1556, with the
  mean over the pixels in place of the first two fully connected layers.

  Args:
    name: `vgg_a`, `vgg_16` or `vgg_19`.
    num_classes: number of logits, at least 1.
    width: factor of the numbers of channels, positive.
    image_size: height and width of the images, at least 16. None: any.
    prune_last_layer: whether the last kernel may be sparsified; if not, the
      layer has biases, as published.

  Returns:
    A model that maps images, float [batch, height, width, 3] normalised by the
    mean and standard deviation of ImageNet, to logits.

  Raises:
    ValueError: if `name` or `width` is not as described.
  """
  if name not in tables.VGGS:
    raise ValueError(f"`name` must be one of {[*tables.VGGS]}, got {name!r}.")
  network_layers.check_width(width)
  features = images = keras.Input([image_size, image_size, 3])
  for group, size in enumerate(tables.VGGS[name], start=1):
    if group > 1:
      features = layers.MaxPooling2D(2)(features)
    outputs = int(tables.VGG_CHANNELS[group - 1] * width)
    for number in range(1, size + 1):
      convolution = _conv(outputs, 3, f"conv{group}_{number}")
      features = layers.ReLU()(convolution(features))
  features = layers.GlobalAveragePooling2D(keepdims=True)(features)
  logits = _conv(num_classes, 1, "fc8", not prune_last_layer)(features)
  return keras.Model(images, layers.Flatten()(logits), name=name)


def _conv(
  filters: int, size: int, name: str, use_bias: bool = False
) -> keras.Layer:
  initializer = keras.initializers.VarianceScaling(_SCALE)
  return network_layers.conv(
    filters, size, 1, name, "same", initializer, use_bias
  )
