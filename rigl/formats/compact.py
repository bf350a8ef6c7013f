# SPDX-License-Identifier: Apache-2.0
"""Compact files: sparse tensors as bit masks and values.

A file is, in this order:

  8 bytes   magic number
  4 bytes   version of the format, 1
  4 bytes   CRC-32 of the header
  8 bytes   length of the header
  8 bytes   length of the file
            header: JSON in UTF-8, compressed by zlib, then zeros up to a
            multiple of 64 bytes
            sections, each of them padded with zeros to a multiple of 64 bytes

All numbers are little-endian. The header has the metadata and one entry per
tensor: name, type, shape, and the sections of its mask (one bit per entry, the
first one the highest of its byte) and of its values. A dense tensor has no
mask, and values for all its entries. Reading a file executes nothing in it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rigl import files
from rigl.file_kinds import HEAD_BYTES, kind_of
from rigl.formats import sections
from rigl.formats.sections import (
  ALIGNMENT,
  Section,
  SectionError,
  padded_length,
)
from rigl.version import __version__

SUFFIX = ".rigl"
MAGIC = b"\x93RIGL\r\n\x1a"
VERSION = 1
DTYPES = ("float32", "float16")

_FIXED = struct.Struct("<8sIIQQ")
_STORED = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")
_MASK = "/mask"
# Tensors of fewer dimensions (biases, statistics of norms) are few, and keep
# their precision.
_KERNEL_RANK = 2


class CompactFile:
  """A compact file that is open for reading.

  A file on a disk is memory-mapped: tensors are read when they are asked for,
  and values that are stored without compression are views of the file.

  Args:
    place: the file.

  Attributes:
    metadata: what its writer said about it.

  Raises:
    DamagedError: if it is damaged.
    ValueError: if it is another kind of file, or of a later version.
    OSError: if it cannot be read.
  """

  def __init__(self, place: files.Path) -> None:
    self._place = str(place)
    content = _bytes_of(place)
    if content[: len(MAGIC)].tobytes() != MAGIC:
      kind = kind_of(content[:HEAD_BYTES].tobytes()) or "it is something else"
      raise ValueError(f"`{place}` is no compact file of rigl: {kind}.")
    try:
      header, self._content = _split(content)
      entries = header["tensors"]
      self.metadata: dict[str, Any] = dict(header["metadata"])
      self._entries = {entry["name"]: _Entry(entry) for entry in entries}
      if len(self._entries) != len(entries):
        raise SectionError("two tensors have the same name")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise self._damaged(error) from error

  @property
  def names(self) -> list[str]:
    """The names of the tensors."""
    return [*self._entries]

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors by name."""
    return {name: entry.shape for name, entry in self._entries.items()}

  def values(self, name: str) -> np.ndarray:
    """The stored values of a tensor, in the type that they are stored in.

    Args:
      name: one of `names`.

    Returns:
      [number of active connections], or of a dense tensor its entries. A view
      of the file if they are stored without compression.

    Raises:
      DamagedError: if they are damaged.
    """
    entry = self._entries[name]
    try:
      return sections.decode(entry.values, self._content, entry.stored_dtype)
    except SectionError as error:
      raise self._damaged(error, name) from error

  def mask(self, name: str) -> np.ndarray | None:
    """The mask of a tensor; None if it has none.

    Args:
      name: one of `names`.

    Returns:
      bool, of the tensor's shape.

    Raises:
      DamagedError: if it is damaged.
    """
    entry = self._entries[name]
    if entry.is_full:
      return np.ones(entry.shape, bool)
    if entry.mask is None:
      return None
    try:
      octets = sections.decode(entry.mask, self._content, np.dtype(np.uint8))
      bits = np.unpackbits(octets)
      if len(octets) != -(-entry.size // 8) or bits[entry.size :].any():
        raise SectionError("a mask has another size than its tensor")
    except SectionError as error:
      raise self._damaged(error, name) from error
    return bits[: entry.size].view(bool).reshape(entry.shape)

  def tensor(self, name: str) -> np.ndarray:
    """A whole tensor, zero where its mask is.

    Args:
      name: one of `names`.

    Raises:
      DamagedError: if it is damaged.
    """
    return self._filled(name, self.mask(name))

  def tensors(self) -> dict[str, np.ndarray]:
    """All tensors, and the masks that have a name as float32, by name.

    These are the arrays of a checkpoint, without the state of an optimizer.

    Raises:
      DamagedError: if one is damaged.
    """
    found = {}
    for name, entry in self._entries.items():
      mask = self.mask(name)
      found[name] = self._filled(name, mask)
      if entry.mask_name and mask is not None:
        found[entry.mask_name] = mask.astype(np.float32)
    return found

  def _filled(self, name: str, mask: np.ndarray | None) -> np.ndarray:
    entry, values = self._entries[name], self.values(name)
    count = entry.size if mask is None else np.count_nonzero(mask)
    if len(values) != count:
      error = SectionError("a tensor has another size than its values")
      raise self._damaged(error, name)
    if mask is None or entry.is_full:
      return values.astype(entry.dtype).reshape(entry.shape)
    dense = np.zeros(entry.shape, entry.dtype)
    dense[mask] = values
    return dense

  def _damaged(self, error: Exception, name: str = "") -> files.DamagedError:
    where = f", tensor {name!r}" if name else ""
    return files.DamagedError(
      f"`{self._place}` is a damaged compact file{where}: {error}."
    )


class _Entry:
  """The entry of a tensor in the header."""

  def __init__(self, entry: Mapping[str, Any]) -> None:
    self.shape = tuple(entry["shape"])
    types = [entry["dtype"], entry["stored_dtype"]]
    if (
      any(type(size) is not int or size < 0 for size in self.shape)
      or any(name not in _STORED for name in types)
      or type(entry["name"]) is not str
    ):
      raise SectionError("the entry of a tensor holds wrong values")
    self.size = math.prod(self.shape)
    self.dtype, self.stored_dtype = map(np.dtype, types)
    self.values = Section.of_json(entry["values"])
    self.is_full = entry["mask"] == "full"
    self.mask_name = entry["mask_name"]
    self.mask = None
    if not self.is_full and entry["mask"] is not None:
      self.mask = Section.of_json(entry["mask"])
    largest = 8 * self.mask.length if self.mask else self.values.length
    if self.size > largest:
      raise SectionError("the entry of a tensor claims too many values")


def is_compact(place: files.Path) -> bool:
  """Whether a file starts as compact files do; it may be damaged."""
  found = files.path(place)
  try:
    if not found.is_file():
      return False
    if isinstance(found, pathlib.Path):
      with found.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
    return found.suffix == SUFFIX or found.read_bytes().startswith(MAGIC)
  except OSError:
    return False


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
  bytes. Negative zeros off a mask are read as zeros; all else is read as it
  was, bit by bit.

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
  end = padded_length(_FIXED.size + len(text))
  header = text.ljust(end - _FIXED.size, b"\0")
  length = _FIXED.size + len(header) + sum(map(len, stored))
  fixed = _FIXED.pack(MAGIC, VERSION, zlib.crc32(header), len(header), length)
  with files.replacing(target) as temporary:
    temporary.write_bytes(b"".join([fixed, header, *stored]))


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    raise ValueError(f"`{name}` must be one of {[*known]}, got {value!r}.")


def _with_masks(
  tensors: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None, str | None]]:
  """Name, array, mask and name of the mask of every tensor."""
  unknown = sorted(set(masks) - set(tensors))
  if unknown:
    raise ValueError(
      f"`masks` must be of `tensors`, got one of {unknown[0]!r}."
    )
  named = {
    f"{name.removesuffix(_MASK)}/weights": name
    for name in tensors
    if name.endswith(_MASK)
  }
  for name, value in tensors.items():
    if (
      name.endswith(_MASK) and f"{name.removesuffix(_MASK)}/weights" in tensors
    ):
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
        raise ValueError(f"{name!r} must be zero where its mask is.")
    yield name, array, mask, mask_name


def _storable(name: str, value: Any) -> np.ndarray:
  array = np.asarray(value)
  if str(array.dtype) == "bfloat16":  # float32 holds all its values.
    array = array.astype(np.float32)
  if str(array.dtype) not in _STORED:
    raise ValueError(
      f"{name!r} must have one of the types {[*_STORED]}, got {array.dtype}."
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
    compression = "zlib"  # Nobody maps so few values.
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


def _bytes_of(place: files.Path) -> np.ndarray:
  found = files.path(place)
  if not found.is_file():
    raise ValueError(f"There is no compact file `{place}`.")
  if isinstance(found, pathlib.Path) and os.path.getsize(found):
    return np.memmap(found, np.uint8, "r")
  return np.frombuffer(found.read_bytes(), np.uint8)


def _split(content: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
  """The header and the sections.

  Raises:
    SectionError: if it is damaged or of a later version.
  """
  if len(content) < _FIXED.size:
    raise SectionError("it ends within its first bytes")
  _, version, checksum, header_length, length = _FIXED.unpack(
    content[: _FIXED.size].tobytes()
  )
  if version != VERSION:
    raise SectionError(
      f"its version is {version}, and this rigl reads version {VERSION}"
    )
  if length != len(content):
    raise SectionError(f"it has {len(content)} bytes instead of {length}")
  end = _FIXED.size + header_length
  header = content[_FIXED.size : min(end, len(content))].tobytes()
  if len(header) != header_length or zlib.crc32(header) != checksum:
    raise SectionError("the checksum of its header is wrong")
  try:
    found = json.loads(sections.decompress(header))
  except ValueError as error:
    raise SectionError("its header is no JSON") from error
  return found, content[end:]
