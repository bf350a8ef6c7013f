# SPDX-License-Identifier: Apache-2.0
"""MobileNet v1 and v2 of the ImageNet script as Keras models."""

from __future__ import annotations

import keras
from keras import layers

from rigl.counting.architectures import tables
from rigl.keras import network_layers
from rigl.keras.network_layers import IMAGENET_EPSILON, Norms

_SCOPE = "resnet_model"


def mobilenet_v1(
  num_classes: int = 1000, width: float = 1.0, image_size: int | None = 224
) -> keras.Model:
  """MobileNet-v1 of the ImageNet script: separable convolutions.

  Source: Howard et al., 2017, https://arxiv.org/abs/1704.04861. The script
  keeps the kernel of the first layer and the depthwise kernels dense.

  Args:
    num_classes: number of logits, at least 1.
    width: factor of the numbers of channels, positive.
    image_size: height and width of the images. None: any.

  Returns:
    A model that maps images, float [batch, height, width, 3] normalised by the
    mean and standard deviation of ImageNet, to logits.

  Raises:
    ValueError: if `width` is not positive.
  """
  network_layers.check_width(width)
  norm = Norms(IMAGENET_EPSILON)
  images = keras.Input([image_size, image_size, 3])
  features = _first(images, width, norm)
  for index, (channels, strides) in enumerate(tables.MOBILENET_V1):
    outputs = tables.mobilenet_channels(index, channels, width)
    features = _depthwise(features, index, strides, norm)
    features = network_layers.strided(
      outputs, 1, 1, f"contraction_1x1_{index}", features
    )
    features = layers.ReLU()(norm()(features))
  return keras.Model(images, _last(features, num_classes), name=_SCOPE)


def mobilenet_v2(
  num_classes: int = 1000,
  width: float = 1.0,
  image_size: int | None = 224,
  expansion_factor: float = 6.0,
) -> keras.Model:
  """MobileNet-v2 of the ImageNet script: inverted residuals, with ReLU.

  Source: Sandler et al., 2018, https://arxiv.org/abs/1801.04381. The script
  keeps the kernel of the first layer and the depthwise kernels dense.

  Args:
    num_classes: number of logits, at least 1.
    width: factor of the numbers of channels, positive.
    image_size: height and width of the images. None: any.
    expansion_factor: how many times more channels the inside of a block has;
      the first block has no expansion.

  Returns:
    A model that maps images, float [batch, height, width, 3] normalised by the
    mean and standard deviation of ImageNet, to logits.

  Raises:
    ValueError: if `width` or `expansion_factor` is not positive.
  """
  network_layers.check_width(width)
  if not expansion_factor > 0:
    raise ValueError(f"`expansion_factor` must be > 0, got {expansion_factor}.")
  norm = Norms(IMAGENET_EPSILON)
  images = keras.Input([image_size, image_size, 3])
  features = _first(images, width, norm)
  for index, (channels, strides) in enumerate(tables.MOBILENET_V2):
    inputs, shortcut = features.shape[-1], features
    outputs = tables.mobilenet_channels(index, channels, width)
    if index:
      inside = tables.mobilenet_v2_inside(index, inputs, expansion_factor)
      features = network_layers.strided(
        inside, 1, 1, f"expand_1x1_{index}", features
      )
      features = layers.ReLU()(norm()(features))
    features = _depthwise(features, index, strides, norm)
    features = network_layers.strided(
      outputs, 1, 1, f"contraction_1x1_{index}", features
    )
    features = norm()(features)
    if strides == 1 and inputs == outputs:
      features = layers.Add()([features, shortcut])
  last = tables.mobilenet_v2_last(width)
  features = network_layers.strided(last, 1, 1, "final_1x1_conv", features)
  features = layers.ReLU()(norm()(features))
  return keras.Model(images, _last(features, num_classes), name=_SCOPE)


def _first(
  images: keras.KerasTensor, width: float, norm: Norms
) -> keras.KerasTensor:
  channels = tables.mobilenet_first(width)
  features = network_layers.strided(channels, 3, 2, "initial_conv", images)
  return layers.ReLU()(norm()(features))


def _depthwise(
  features: keras.KerasTensor, index: int, strides: int, norm: Norms
) -> keras.KerasTensor:
  name = f"depthwise_nxn_{index}"
  features = network_layers.strided_depthwise(3, strides, name, features)
  return layers.ReLU()(norm()(features))


def _last(features: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
  features = layers.GlobalAveragePooling2D()(features)
  return layers.Dense(
    num_classes, kernel_initializer="lecun_normal", name="final_dense"
  )(features)
