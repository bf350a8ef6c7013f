# SPDX-License-Identifier: Apache-2.0
"""Decoding, cropping and resizing of JPEGs, as in the published pipeline.

Values stay in [0, 255] (a little beyond, by bicubic resizing); `normalise` is
for the network's input.
"""

from __future__ import annotations

import tensorflow as tf

from rigl.types import Tensor

IMAGE_SIZE = 224
MEAN_RGB = tuple(255 * value for value in (0.485, 0.456, 0.406))
STDDEV_RGB = tuple(255 * value for value in (0.229, 0.224, 0.225))

# Pixels that the central crop leaves out of an image 256 pixels high.
_CROP_PADDING = 32
# A block of 8 x 8 pixels takes a bit or more, or the image is small.
_PIXELS_PER_BYTE, _FEW_PIXELS = 512, 1 << 22


def normalise(images: Tensor) -> Tensor:
  """Subtracts the mean of each colour and divides by its deviation.

  Args:
    images: [..., 3], values in [0, 255].

  Returns:
    float32 of that shape.
  """
  return (tf.cast(images, tf.float32) - MEAN_RGB) / STDDEV_RGB


def training_image(
  jpeg: Tensor, seed: Tensor, size: int = IMAGE_SIZE
) -> Tensor:
  """A random crop of an image, mirrored in half of the cases.

  The crop covers 8 to 100 % of the image and has an aspect ratio from 3/4 to
  4/3; it is the central one if ten attempts find none.

  Args:
    jpeg: string scalar.
    seed: int64 [2], decides the crop.
    size: height and width of the result.

  Returns:
    float32 [size, size, 3].
  """
  shape = jpeg_shape(jpeg)
  begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
    shape,
    bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
    seed=seed,
    min_object_covered=0.1,
    aspect_ratio_range=(3 / 4, 4 / 3),
    area_range=(0.08, 1.0),
    max_attempts=10,
    use_image_if_no_bounding_boxes=True,
  )
  window = tf.concat([begin[:2], extent[:2]], 0)
  # Without a valid crop it returns the whole image. (In a TF1 graph `==`
  # compares objects.)
  failed = tf.reduce_all(tf.equal(extent[:2], shape[:2]))
  window = tf.where(failed, _central_window(shape, size), window)
  image = _cropped(jpeg, window, size)
  mirror = tf.random.stateless_uniform([], seed + [0, 1 << 40]) < 0.5
  return tf.cond(mirror, lambda: tf.image.flip_left_right(image), lambda: image)


def evaluation_image(jpeg: Tensor, size: int = IMAGE_SIZE) -> Tensor:
  """The central square, of side size / (size + 32) of the shorter side.

  Args:
    jpeg: string scalar.
    size: height and width of the result.

  Returns:
    float32 [size, size, 3].
  """
  return _cropped(jpeg, _central_window(jpeg_shape(jpeg), size), size)


def jpeg_shape(jpeg: Tensor) -> Tensor:
  """(height, width, channels) of a JPEG, int32 [3].

  It fails if the header claims more pixels than the JPEG can hold, because
  decoding takes memory for all of them.

  Args:
    jpeg: string scalar.
  """
  shape = tf.io.extract_jpeg_shape(jpeg)
  height, width = tf.cast(shape[0], tf.int64), tf.cast(shape[1], tf.int64)
  held = _PIXELS_PER_BYTE * tf.cast(tf.strings.length(jpeg), tf.int64)
  check = tf.debugging.Assert(
    height * width <= tf.maximum(held, _FEW_PIXELS),
    ["the JPEG claims more pixels than it can hold:", height, width],
  )
  with tf.control_dependencies([check]):
    return tf.identity(shape)


def central_image(image: Tensor) -> Tensor:
  """The central square of a decoded image, as `evaluation_image` crops it.

  Args:
    image: uint8 [height, width, 3].

  Returns:
    float32 [IMAGE_SIZE, IMAGE_SIZE, 3].
  """
  window = _central_window(tf.shape(image), IMAGE_SIZE)
  return _resized(tf.image.crop_to_bounding_box(image, *window), IMAGE_SIZE)


def _central_window(shape: Tensor, size: int) -> Tensor:
  """(top, left, height, width) of the central crop."""
  share = size / (size + _CROP_PADDING)
  shorter = tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)
  side = tf.maximum(tf.cast(share * shorter, tf.int32), 1)
  top, left = ((shape[i] - side + 1) // 2 for i in (0, 1))
  return tf.stack([top, left, side, side])


def _cropped(jpeg: Tensor, window: Tensor, size: int) -> Tensor:
  """Decodes only the window and resizes it."""
  return _resized(tf.io.decode_and_crop_jpeg(jpeg, window, channels=3), size)


def _resized(image: Tensor, size: int) -> Tensor:
  # With pixels placed as TensorFlow 1 did, not at their centres. Converted
  # before, because the operation would convert each byte several times.
  pixels = tf.cast(image, tf.float32)
  resized = tf.raw_ops.ResizeBicubic(images=pixels[None], size=[size, size])
  return tf.ensure_shape(resized[0], [size, size, 3])
