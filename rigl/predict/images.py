# SPDX-License-Identifier: Apache-2.0
"""Readers of images to predict: .npz files, JPEG and PNG files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rigl import file_contents, files
from rigl.file_kinds import HEAD_BYTES, kind_of
from rigl.imagenet_resnet.input import preprocessing
from rigl.predict.tasks import PredictTask
from rigl.types import Tensor
from rigl.url_path import reason_of

KEY = "images"


def load_array(path: files.AnyPath, task: PredictTask) -> np.ndarray:
  """Reads the images of an .npz file.

  Args:
    path: the file, which has the key `images`.
    task: decides shape and type of the images.

  Raises:
    ValueError: if the file or the images are not as described.
  """
  if not path.is_file():
    raise ValueError(f"`images` must be an existing file, got {str(path)!r}.")
  try:
    images = file_contents.read_arrays(path, [KEY])[KEY]
  except ValueError as error:
    raise ValueError(
      f"`images` must be a whole .npz file with the key {KEY!r}, got "
      f"{str(path)!r}: {error}"
    ) from error
  _check(images, task)
  return images


def load_files(paths: Sequence[files.AnyPath], task: PredictTask) -> np.ndarray:
  """Reads JPEG and PNG files and resizes them for the task.

  ImageNet takes the central crop, as evaluations do. The other tasks take the
  central square, scaled to their size.

  Args:
    paths: the files, at least one.
    task: decides size and number of colours of the images.

  Returns:
    A batch of images in the order of the files.

  Raises:
    ValueError: naming the first file that is missing or no image.
  """
  return np.stack([_load_file(path, task) for path in paths])


def _check(images: np.ndarray, task: PredictTask) -> None:
  expected = ("N", *(size or "any" for size in task.image_shape))
  fits = images.ndim == len(expected) and all(
    size is None or size == found
    for size, found in zip(task.image_shape, images.shape[1:], strict=False)
  )
  if not fits or images.size == 0:
    raise ValueError(
      f"`images` must have the shape [{', '.join(map(str, expected))}] with at "
      f"least one image, got {list(images.shape)}."
    )
  if images.dtype == np.uint8:
    return
  kinds = "uint8"
  if task.floats:
    kinds += " or float numbers in [0, 1]"
    if np.issubdtype(images.dtype, np.floating):
      low, high = images.min(), images.max()  # NaN if there is one.
      if low >= 0 and high <= 1:
        return
      raise ValueError(f"`images` must be {kinds}, got {low:g} to {high:g}.")
  raise ValueError(f"`images` must be {kinds}, got {images.dtype}.")


def _load_file(path: files.AnyPath, task: PredictTask) -> np.ndarray:
  if not path.is_file():
    raise ValueError(f"`images` must be existing files, got {str(path)!r}.")
  content = path.read_bytes()
  try:
    return _decode(content, task.image_shape).numpy()
  except tf.errors.InvalidArgumentError as error:
    kind = kind_of(content[:HEAD_BYTES]) or "image"
    reason = reason_of(error).rstrip(".") if "image" in kind else kind
    raise ValueError(
      "`images` must be an .npz file or JPEG and PNG files, got "
      f"{str(path)!r}: {reason}."
    ) from error


def _decode(content: bytes, shape: tuple[int | None, ...]) -> Tensor:
  if shape[0] is None:
    if tf.io.is_jpeg(content):
      return preprocessing.evaluation_image(content)
    return preprocessing.central_image(_pixels(content, 3))
  if len(shape) == 3:
    return _scaled(_pixels(content, 3), int(shape[0]))
  side = round(shape[0] ** 0.5)
  return tf.reshape(_scaled(_pixels(content, 1), side), shape)


def _pixels(content: bytes, channels: int) -> Tensor:
  if tf.io.is_jpeg(content):
    preprocessing.jpeg_shape(content)  # Fails if it claims too much.
  try:
    return tf.io.decode_image(content, channels, expand_animations=False)
  except tf.errors.InvalidArgumentError:
    if channels != 1:
      raise
  # Not every kind of colours is decoded to grey.
  return tf.image.rgb_to_grayscale(_pixels(content, 3))


def _scaled(image: Tensor, size: int) -> Tensor:
  """The central square in this size, uint8."""
  height, width, _ = image.shape
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  square = image[top : top + side, left : left + side]
  if side != size:
    square = tf.round(tf.image.resize(square, [size, size], "area"))
  return tf.cast(square, tf.uint8)
