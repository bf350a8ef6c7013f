# SPDX-License-Identifier: Apache-2.0
"""Preprocessing of CIFAR images: standardisation, random crops and flips.

Tensor code on a whole batch, the same with and without XLA: it compiles into
the training step.
"""

from __future__ import annotations

import tensorflow as tf

from rigl.distribution import replicas
from rigl.types import Tensor

_PADDING = 4


def standardize(images: Tensor) -> Tensor:
  """Gives every image mean 0 and standard deviation 1.

  Like `tf.image.per_image_standardization`, it takes the standard deviation as
  at least 1 / sqrt(number of values of an image).

  Args:
    images: [batch, height, width, channels] of any number type.

  Returns:
    float32 of that shape.
  """
  images = tf.cast(images, tf.float32)
  size = images.shape[1:].num_elements()
  mean = tf.reduce_mean(images, [1, 2, 3], keepdims=True)
  centred = images - mean
  variance = tf.reduce_mean(tf.square(centred), [1, 2, 3], keepdims=True)
  return centred / tf.maximum(tf.sqrt(variance), size**-0.5)


def random_crop_and_flip(images: Tensor, key: Tensor) -> Tensor:
  """Shifts every image by up to 4 pixels and mirrors half of them.

  That is a random crop of the image with 4 more pixels on each side, which
  mirror those at its border, the outermost included.

  Args:
    images: [batch, height, width, channels] of static shape.
    key: integer [2]; together with the shape it decides shifts and flips. Each
      replica transforms its shard of the global batch.

  Returns:
    Tensor of the same shape and dtype.
  """
  batch, height, width, channels = images.shape
  count = replicas.num_replicas()
  bits = tf.random.stateless_uniform(
    [3, count * batch, 1], key, None, None, tf.uint32, alg="philox"
  )
  if count > 1:  # The values a single replica would draw for this shard.
    bits = tf.stack([replicas.local_shard(row) for row in tf.unstack(bits)])
  shifts = tf.cast(bits % (2 * _PADDING + 1), tf.int32) - _PADDING
  rows = _mirrored(tf.range(height) + shifts[0], height)
  columns = tf.range(width)
  flip = tf.cast(bits[2] % 2, tf.bool)
  columns = tf.where(flip, width - 1 - columns, columns) + shifts[1]
  columns = _mirrored(columns, width)
  first = tf.range(batch)[:, None, None] * (height * width)
  pixels = first + rows[:, :, None] * width + columns[:, None, :]
  return tf.gather(tf.reshape(images, [-1, channels]), pixels)


def _mirrored(index: Tensor, size: int) -> Tensor:
  """Folds indices from -size to 2 * size - 1 back, -1 to 0 and size - 1."""
  index = tf.where(index < 0, -1 - index, index)
  return tf.where(index >= size, 2 * size - 1 - index, index)
