# SPDX-License-Identifier: Apache-2.0
"""Removal of input pixels that another run's masks do not connect.

The masks come from checkpoints, published ones or our own.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rigl import files
from rigl.mnist.mnist_data import MnistData
from rigl.sparse.checkpoints import to_masked
from rigl.tensor_names import mask_of
from rigl.training import checkpoints

_LAYER = "layer1"
_MASK_NAME = mask_of(_LAYER)
# The pixels themselves, in a file that was exported from such a network.
PIXELS = "input_pixels"


def apply_input_mask(data: MnistData, path: str) -> MnistData:
  """Keeps the pixels that have a connection in the first mask of a run.

  Args:
    data: the images.
    path: a run directory or the prefix of a checkpoint with `layer1/mask`;
      empty to keep all pixels.

  Returns:
    The data with uint8 [n, pixels left] images.

  Raises:
    ValueError: if there is no such mask or it does not fit the images.
  """
  if not path:
    return data
  used = used_pixels(path, data.train_images.shape[1])
  return data._replace(
    train_images=data.train_images[:, used],
    test_images=data.test_images[:, used],
  )


def used_pixels(path: str, num_pixels: int) -> np.ndarray:
  """The pixels that have a connection in the first mask of a run.

  Args:
    path: a run directory or the prefix of a checkpoint with `layer1/mask`;
      empty for all pixels.
    num_pixels: number of pixels of an image.

  Returns:
    Their ascending numbers.

  Raises:
    ValueError: if there is no such mask or it does not fit the images.
  """
  if not path:
    return np.arange(num_pixels)
  is_run = not checkpoints.exists(path) and files.path(path).is_dir()
  prefix = _newest(path) if is_run else path
  if prefix is None:
    raise ValueError(f"`--input_mask_path`: no checkpoint in {path!r}.")
  try:
    tensors = checkpoints.load(prefix)
    if f"{_LAYER}/values" in tensors:
      tensors = to_masked(tensors, [_LAYER])
  except ValueError as error:
    raise ValueError(f"`--input_mask_path`: {error}") from error
  if PIXELS in tensors:
    pixels: np.ndarray = tensors[PIXELS]
    if pixels.ndim == 1 and np.all((pixels >= 0) & (pixels < num_pixels)):
      return pixels
    raise ValueError(
      f"`--input_mask_path`: {PIXELS} must be in [0, {num_pixels}), got others "
      f"in {prefix!r}."
    )
  if _MASK_NAME not in tensors:
    raise ValueError(f"`--input_mask_path`: no {_MASK_NAME} in {prefix!r}.")
  mask = tensors[_MASK_NAME] != 0
  if mask.ndim != 2 or len(mask) != num_pixels:
    raise ValueError(
      f"`--input_mask_path`: {_MASK_NAME} must be [{num_pixels}, units], got "
      f"{list(mask.shape)}."
    )
  used = np.flatnonzero(mask.any(axis=1))
  if not used.size:
    raise ValueError(f"`--input_mask_path`: {_MASK_NAME} connects no pixel.")
  return used


def _newest(directory: str) -> str | None:
  """The newest checkpoint of a directory; its list of them may be damaged.

  TensorFlow finds none where the name of the directory looks like a pattern.
  """
  found: str | None = tf.train.latest_checkpoint(directory)
  numbers = checkpoints.list_numbers(directory)
  if found is None and numbers:
    found = str(files.path(directory) / checkpoints.name_of(numbers[-1]))
  return found
