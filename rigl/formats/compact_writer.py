# SPDX-License-Identifier: Apache-2.0
"""Writes compact files."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rigl import files
from rigl.formats import sections
from rigl.formats.compact_layout import FIXED, MAGIC, STORED, VERSION
from rigl.formats.sections import ALIGNMENT, Section, padded_length
from rigl.tensor_names import is_mask, weights_of
from rigl.version import __version__

DTYPES = ("float32", "float16")

# Tensors of fewer dimensions, such as biases, keep their precision: they are
# small.
_KERNEL_RANK = 2


def write(
  place: files.Path,
  tensors: Mapping[str, np.ndarray],
  masks: Mapping[str, np.ndarray] | None = None,
  metadata: Mapping[str, Any] | None = None,
  dtype: str = "float32",
  compression: str = "zlib",
  overwrite: bool = False,
) -> None:
  """Writes a compact file whole or not at all.

  A tensor without a mask is stored dense or sparse, whichever takes fewer
  bytes. Reading gives the same bits, except that negative zeros off a mask
  become positive.

  Args:
    place: the file.
    tensors: arrays by name. One that is called `LAYER/mask` is the mask of
      `LAYER/weights`, as in checkpoints, if there is one.
    masks: masks of other tensors by the names of these.
    metadata: what JSON can hold, for readers.
    dtype: type of kernels in the file, `float32` or `float16`. Tensors with
      fewer than two dimensions, and of other types, are stored as they are.
    compression: `zlib`, or `none` for kernels whose values are views of the
      file.
    overwrite: whether to replace a file that exists.

  Raises:
    ValueError: if an argument is not as described, a weight off its mask is
      not zero, a value is too large for `float16`, or the file exists.
    OSError: if it cannot be written.
  """
  _check("dtype", dtype, DTYPES)
  _check("compression", compression, sections.COMPRESSIONS)
  target = files.path(place)
  if target.exists() and (not overwrite or target.is_dir()):
    raise ValueError(
      f"`{place}` exists; choose another name, or set `overwrite`."
    )
  entries: list[dict[str, Any]] = []
  stored: list[bytes] = []
  for name, array, mask, mask_name in _with_masks(tensors, masks or {}):
    entries.append(
      _encoded(name, array, mask, mask_name, dtype, compression, stored)
    )
  content = json.dumps(
    {
      "writer": f"rigl {__version__}",
      "metadata": dict(metadata or {}),
      "tensors": entries,
    },
    separators=(",", ":"),
  )
  text = zlib.compress(content.encode(), 9)
  end = padded_length(FIXED.size + len(text))
  header = text.ljust(end - FIXED.size, b"\0")
  length = FIXED.size + len(header) + sum(map(len, stored))
  fixed = FIXED.pack(MAGIC, VERSION, zlib.crc32(header), len(header), length)
  with files.replacing(target) as temporary:
    temporary.write_bytes(b"".join([fixed, header, *stored]))


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    raise ValueError(f"`{name}` must be one of {[*known]}, got {value!r}.")


def _with_masks(
  tensors: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None, str | None]]:
  """Pairs tensors with their masks.

  Yields:
    Name, array, mask and name of the mask of every tensor that is no mask.
    The last two may be None.
  """
  unknown = sorted(set(masks) - set(tensors))
  if unknown:
    raise ValueError(
      f"`masks` must be of `tensors`, got one of {unknown[0]!r}."
    )
  named = {weights_of(name): name for name in tensors if is_mask(name)}
  for name, value in tensors.items():
    if is_mask(name) and weights_of(name) in tensors:
      continue
    array = _storable(name, value)
    mask_name = named.get(name)
    mask = masks.get(name) if mask_name is None else tensors[mask_name]
    if mask is not None:
      mask = np.asarray(mask) != 0
      if mask.shape != array.shape:
        raise ValueError(
          f"The mask of {name!r} must have the shape {array.shape}, got "
          f"{mask.shape}."
        )
      if np.any(array[~mask] != 0):
        raise ValueError(f"{name!r} must be zero off its mask.")
    yield name, array, mask, mask_name


def _storable(name: str, value: Any) -> np.ndarray:
  """An array in a type that files hold, little-endian."""
  array = np.asarray(value)
  if str(array.dtype) == "bfloat16":  # float32 holds all its values.
    array = array.astype(np.float32)
  if str(array.dtype) not in STORED:
    raise ValueError(
      f"{name!r} must have one of the types {[*STORED]}, got {array.dtype}."
    )
  return array.astype(array.dtype.newbyteorder("<"))


def _encoded(
  name: str,
  array: np.ndarray,
  mask: np.ndarray | None,
  mask_name: str | None,
  dtype: str,
  compression: str,
  stored: list[bytes],
) -> dict[str, Any]:
  """The entry of a tensor; its sections are appended to `stored`."""
  values = array
  if array.dtype == np.float32 and array.ndim >= _KERNEL_RANK:
    values = _converted(name, array, dtype)
  if mask is None:
    mask = _useful_mask(values)
  is_full = mask is not None and bool(mask.all())
  section = None
  if array.ndim < _KERNEL_RANK:
    compression = "zlib"  # Memory-mapping so few values gains nothing.
  if mask is not None and not is_full:
    section = _append(np.packbits(mask), compression, stored)
    values = values[mask]
  return {
    "name": name,
    "dtype": str(array.dtype),
    "stored_dtype": str(values.dtype),
    "shape": list(array.shape),
    "mask_name": mask_name,
    "mask": "full" if is_full else section,
    "values": _append(values.reshape(-1), compression, stored),
  }


def _converted(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
  """A kernel in the type of the file, without values that become infinite."""
  with np.errstate(over="ignore"):
    converted = array.astype(dtype)
  if np.any(np.isinf(converted) & np.isfinite(array)):
    raise ValueError(
      f"`dtype` must be float32 for {name!r}, whose largest value is "
      f"{np.max(np.abs(array)):g}."
    )
  return converted


def _useful_mask(values: np.ndarray) -> np.ndarray | None:
  """Where an array is not zero, if that saves bytes."""
  if values.dtype.kind != "f" or values.ndim < _KERNEL_RANK:
    return None
  mask = values != 0
  saved = (mask.size - np.count_nonzero(mask)) * values.itemsize
  return mask if saved > mask.size // 8 + ALIGNMENT else None


def _append(
  values: np.ndarray, compression: str, stored: list[bytes]
) -> dict[str, Any]:
  """Appends a section; returns its entry."""
  codec, content = sections.encode(values, compression)
  padded = content.ljust(padded_length(len(content)), b"\0")
  section = Section(
    offset=sum(map(len, stored)),
    stored=len(content),
    length=values.nbytes,
    codec=codec,
    crc32=zlib.crc32(padded),
  )
  stored.append(padded)
  return dataclasses.asdict(section)
