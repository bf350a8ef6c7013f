# SPDX-License-Identifier: Apache-2.0
"""Typical inputs, by which the activations of an int8 network are quantised."""

from __future__ import annotations

import os

import numpy as np

from rigl import file_contents
from rigl.exporting.signature import Signature

_KEY = "images"


def read(place: str | os.PathLike, signature: Signature) -> np.ndarray:
  """The images of an `.npz` file that fit the one input of a network.

  Args:
    place: the file; its key is `images`.
    signature: what the network takes.

  Raises:
    ValueError: if there is no such file, or it does not fit.
  """
  if len(signature.inputs) != 1:
    raise ValueError("`calibration_images` needs a network with one input.")
  (spec,) = signature.inputs.values()
  try:
    images = file_contents.read_arrays(place, [_KEY])[_KEY]
  except (ValueError, OSError) as error:
    raise ValueError(
      f"`calibration_images` must be an .npz file with the key {_KEY!r}, got "
      f"{os.fspath(place)!r}: {error}"
    ) from error
  wanted = tuple(spec.shape[1:])
  dtype = np.dtype(spec.dtype.as_numpy_dtype)
  if images.shape[1:] != wanted or not len(images) or images.dtype != dtype:
    raise ValueError(
      f"`calibration_images` must be {dtype} of the shape [N, "
      f"{', '.join(map(str, wanted))}], got {images.dtype} {images.shape}."
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
