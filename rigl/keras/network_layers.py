# SPDX-License-Identifier: Apache-2.0
"""Layers that the published networks in Keras have in common."""

from __future__ import annotations

import keras
from keras import layers

# What TensorFlow 1 raised 1e-5 to in its fused operation, on every device.
IMAGENET_EPSILON = 1.001e-5


def conv(
  filters: int,
  size: int,
  strides: int,
  name: str,
  padding: str = "same",
  initializer: str | keras.Initializer = "glorot_uniform",
  use_bias: bool = False,
) -> keras.Layer:
  """A convolution.

  Args:
    filters: number of output channels.
    size: height and width of the window.
    strides: step of the window.
    name: its name.
    padding: `same` or `valid`.
    initializer: initializer of the kernel.
    use_bias: whether it has biases.
  """
  return layers.Conv2D(
    filters,
    size,
    strides,
    padding,
    use_bias=use_bias,
    kernel_initializer=initializer,
    name=name,
  )


def strided(
  filters: int, size: int, strides: int, name: str, images: keras.KerasTensor
) -> keras.KerasTensor:
  """A convolution whose zeros do not depend on the size of the images."""
  images, padding = _padded(images, size, strides)
  return conv(filters, size, strides, name, padding, "lecun_normal")(images)


def strided_depthwise(
  size: int, strides: int, name: str, images: keras.KerasTensor
) -> keras.KerasTensor:
  """A depthwise convolution whose zeros do not depend on the images' size."""
  images, padding = _padded(images, size, strides)
  return layers.DepthwiseConv2D(
    size, strides, padding, use_bias=False, name=name
  )(images)


def _padded(
  images: keras.KerasTensor, size: int, strides: int
) -> tuple[keras.KerasTensor, str]:
  """Images with the zeros of a convolution, and the padding that is left."""
  if strides == 1 or size == 1:
    return images, "same"
  zeros = ((size - 1) // 2, size // 2)
  return layers.ZeroPadding2D((zeros, zeros))(images), "valid"


class Norms:
  """Makes batch normalizations, numbered in the order of creation.

  Args:
    epsilon: added to the variance.
  """

  def __init__(self, epsilon: float) -> None:
    self._epsilon, self._count = epsilon, 0

  def __call__(self, **options: str) -> keras.Layer:
    """Makes the next one.

    Args:
      **options: further arguments of the layer.
    """
    number = f"_{self._count}" if self._count else ""
    self._count += 1
    return layers.BatchNormalization(
      momentum=0.9,
      epsilon=self._epsilon,
      name=f"batch_normalization{number}",
      **options,
    )


def check_width(width: float) -> None:
  """Checks a factor of the number of channels.

  Args:
    width: the factor.

  Raises:
    ValueError: if it is not positive.
  """
  if not width > 0:
    raise ValueError(f"`width` must be > 0, got {width}.")
