# SPDX-License-Identifier: Apache-2.0
"""Typical inputs, by which the activations of an int8 network are quantised."""

from __future__ import annotations

import os

import numpy as np

from rigl import file_contents
from rigl.exporting.signature import Signature
from rigl.predict.images import KEY


def read(
  place: str | os.PathLike, signature: Signature, batch_size: int
) -> np.ndarray:
  """The images of an `.npz` file that fit the one input of a network.

  Args:
    place: the file; its key is `images`.
    signature: what the network takes.
    batch_size: examples per call of the network.

  Raises:
    ValueError: if there is no such file, it does not fit, or its images do not
      fill a batch.
  """
  if len(signature.inputs) != 1:
    raise ValueError("`calibration_images` needs a network with one input.")
  (spec,) = signature.inputs.values()
  try:
    images = file_contents.read_arrays(place, [KEY])[KEY]
  except (ValueError, OSError) as error:
    raise ValueError(
      f"`calibration_images` must be an .npz file with the key {KEY!r}, got "
      f"{os.fspath(place)!r}: {error}"
    ) from error
  wanted = tuple(spec.shape[1:])
  dtype = np.dtype(spec.dtype.as_numpy_dtype)
  if images.shape[1:] != wanted or not len(images) or images.dtype != dtype:
    raise ValueError(
      f"`calibration_images` must be {dtype} of the shape [N, "
      f"{', '.join(map(str, wanted))}], got {images.dtype} {images.shape}."
    )
  if len(images) < batch_size:
    raise ValueError(
      f"`calibration_images` must be at least `batch_size` = {batch_size} "
      f"images, got {len(images)}."
    )
  return images


def batches(
  images: np.ndarray | None, signature: Signature, size: int
) -> list[dict[str, np.ndarray]]:
  """The images in batches of one size; the last ones are left out.

  Args:
    images: of `read`; None if there are none.
    signature: what the network takes.
    size: examples per batch.
  """
  if images is None:
    return []
  (name,) = signature.inputs
  starts = range(0, len(images) - size + 1, size)
  return [{name: images[start : start + size]} for start in starts]
