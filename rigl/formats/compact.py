# SPDX-License-Identifier: Apache-2.0
"""Compact files: sparse tensors as bit masks and values.

`compact_layout` describes the bytes of a file. Reading a file executes nothing
in it.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rigl import files
from rigl.file_contents import DamagedError
from rigl.file_kinds import HEAD_BYTES, kind_of
from rigl.formats import sections
from rigl.formats.compact_layout import FIXED, MAGIC, STORED, VERSION
from rigl.formats.compact_writer import DTYPES, write
from rigl.formats.sections import Section, SectionError

__all__ = [
  "DTYPES",
  "MAGIC",
  "SUFFIX",
  "CompactFile",
  "is_compact",
  "write",
]

SUFFIX = ".rigl"


class CompactFile:
  """A compact file that is open for reading.

  A file on a disk is memory-mapped: tensors are read when they are asked for,
  and values that are stored without compression are views of the file.

  Args:
    place: the file.

  Attributes:
    metadata: what its writer stored about the network.

  Raises:
    DamagedError: if it is damaged, or written by a later version.
    ValueError: if it is another kind of file.
    OSError: if it cannot be read.
  """

  def __init__(self, place: files.Path) -> None:
    self._place = str(place)
    content = _bytes_of(place)
    if content[: len(MAGIC)].tobytes() != MAGIC:
      kind = kind_of(content[:HEAD_BYTES].tobytes()) or "it is something else"
      raise ValueError(f"`{place}` is not a compact file of rigl: {kind}.")
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
    """A tensor in its full shape, zero off its mask.

    Args:
      name: one of `names`.

    Raises:
      DamagedError: if it is damaged.
    """
    return self._filled(name, self.mask(name))

  def tensors(self) -> dict[str, np.ndarray]:
    """All tensors by name, and as float32 the masks that have a name.

    These are the arrays of a checkpoint without the state of the optimizer.

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

  def _damaged(self, error: Exception, name: str = "") -> DamagedError:
    where = f", tensor {name!r}" if name else ""
    return DamagedError(
      f"`{self._place}` is a damaged compact file{where}: {error}."
    )


class _Entry:
  """The entry of a tensor in the header."""

  def __init__(self, entry: Mapping[str, Any]) -> None:
    self.shape = tuple(entry["shape"])
    types = [entry["dtype"], entry["stored_dtype"]]
    if (
      any(type(size) is not int or size < 0 for size in self.shape)
      or any(name not in STORED for name in types)
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


def _bytes_of(place: files.Path) -> np.ndarray:
  """The bytes of a file, uint8 [length]; memory-mapped if it is on a disk."""
  found = files.path(place)
  if not found.is_file():
    raise ValueError(f"There is no compact file `{place}`.")
  if isinstance(found, pathlib.Path) and os.path.getsize(found):
    return np.memmap(found, np.uint8, "r")
  return np.frombuffer(found.read_bytes(), np.uint8)


def _split(content: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
  """Splits the bytes of a file into its header and its sections.

  Returns:
    The header, decoded from JSON, and the bytes of all sections.

  Raises:
    SectionError: if it is damaged or of a later version.
  """
  if len(content) < FIXED.size:
    raise SectionError("it ends within its first bytes")
  _, version, checksum, header_length, length = FIXED.unpack(
    content[: FIXED.size].tobytes()
  )
  if version != VERSION:
    raise SectionError(
      f"its version is {version}, and this rigl reads version {VERSION}"
    )
  if length != len(content):
    raise SectionError(f"it has {len(content)} bytes instead of {length}")
  end = FIXED.size + header_length
  header = content[FIXED.size : min(end, len(content))].tobytes()
  if len(header) != header_length or zlib.crc32(header) != checksum:
    raise SectionError("the checksum of its header is wrong")
  try:
    found = json.loads(sections.decompress(header))
  except ValueError as error:
    raise SectionError("its header is no JSON") from error
  return found, content[end:]
