# SPDX-License-Identifier: Apache-2.0
"""Sections of a compact file: bytes with a codec and a checksum.

zlib compresses them. lzma, the other compressor that every Python has, makes
random masks and weights no smaller, and takes 5 (masks) to 17 (values) times as
long to read them. Masks and the leading bytes of weights have short codes, but
few repetitions. So each section takes the shorter one of plain Huffman codes
and zlib's usual search.
"""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np

# Sections start at multiples of it, so that arrays in them are aligned.
ALIGNMENT = 64
COMPRESSIONS = ("zlib", "none")

_RAW, _ZLIB, _PLANES = "raw", "zlib", "zlib-planes"
_CODECS = (_RAW, _ZLIB, _PLANES)
# zlib makes at most so many bytes of one.
_LARGEST_RATIO = 1032
_LEVEL = 9


class SectionError(ValueError):
  """A section is not as its entry says."""


@dataclasses.dataclass(frozen=True)
class Section:
  """The entry of a section in the header.

  Attributes:
    offset: where its bytes start, counted from the first section.
    stored: number of its bytes in the file, without the zeros that follow.
    length: number of its bytes after decoding.
    codec: `raw`, `zlib`, or `zlib-planes`: the first bytes of all values, then
      their second bytes, and so on.
    crc32: checksum of the stored bytes and of the zeros that follow.
  """

  offset: int
  stored: int
  length: int
  codec: str
  crc32: int

  @classmethod
  def of_json(cls, entry: Any) -> Section:
    """Reads an entry.

    Raises:
      SectionError: if it is not one.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(entry, dict) or set(entry) != set(names):
      raise SectionError("an entry of a section is incomplete")
    section = cls(**entry)
    numbers = [entry[name] for name in names if name != "codec"]
    if (
      any(type(n) is not int or n < 0 for n in numbers)
      or section.codec not in _CODECS
      or section.length > section.stored * _LARGEST_RATIO
    ):
      raise SectionError("an entry of a section holds wrong values")
    return section

  @property
  def end(self) -> int:
    """The first byte after it."""
    return self.offset + self.stored

  @property
  def padded_end(self) -> int:
    """The first byte after the zeros that follow."""
    return self.offset + padded_length(self.stored)


def padded_length(length: int) -> int:
  """A length rounded up to a multiple of `ALIGNMENT`."""
  return length + -length % ALIGNMENT


def encode(values: np.ndarray, compression: str) -> tuple[str, bytes]:
  """The codec and the bytes of an array.

  Args:
    values: the array; its bytes are taken as they lie in memory.
    compression: `zlib` or `none`. Bytes that zlib makes no shorter stay raw.
  """
  raw = np.ascontiguousarray(values)
  content = raw.tobytes()
  if compression == "none":
    return _RAW, content
  codec, source = _ZLIB, content
  if raw.dtype.kind == "f":
    codec, source = _PLANES, _planes(content, raw.itemsize)
  packed = min(
    (_compress(source, strategy) for strategy in _STRATEGIES), key=len
  )
  return (codec, packed) if len(packed) < len(content) else (_RAW, content)


_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY)


def _compress(content: bytes, strategy: int) -> bytes:
  compressor = zlib.compressobj(_LEVEL, strategy=strategy)
  return compressor.compress(content) + compressor.flush()


def decode(
  section: Section, content: np.ndarray, dtype: np.dtype
) -> np.ndarray:
  """The array of a section; of a raw one, a view of the content.

  Args:
    section: its entry.
    content: uint8, all sections of the file.
    dtype: type of the array.

  Raises:
    SectionError: if the bytes are not as the entry says.
  """
  if section.padded_end > len(content) or section.length % dtype.itemsize:
    raise SectionError("an entry of a section holds wrong values")
  padded = content[section.offset : section.padded_end]
  if zlib.crc32(padded.data) != section.crc32:
    raise SectionError("the checksum of a section is wrong")
  stored = content[section.offset : section.end]
  if section.codec == _RAW:
    if section.length != section.stored:
      raise SectionError("an entry of a section holds wrong values")
    return stored.view(dtype)
  raw = decompress(stored.tobytes(), section.length)
  if len(raw) != section.length:
    raise SectionError("a section has another length than its entry")
  if section.codec == _PLANES:
    raw = _planes(raw, section.length // dtype.itemsize)
  return np.frombuffer(raw, dtype)


def decompress(stored: bytes, length: int | None = None) -> bytes:
  """The bytes that zlib compressed.

  Args:
    stored: the compressed bytes; others may follow.
    length: how many bytes to expect; None: any number. Not many more are made,
      whatever the bytes claim.

  Raises:
    SectionError: if they are damaged.
  """
  decompressor = zlib.decompressobj()
  most = len(stored) * _LARGEST_RATIO if length is None else length
  try:
    raw = decompressor.decompress(stored, most + 1)
  except zlib.error as error:
    raise SectionError(f"a section is damaged ({error})") from error
  if not decompressor.eof:
    raise SectionError("a section is incomplete")
  return raw


def _planes(content: bytes, columns: int) -> bytes:
  """The bytes of a matrix with so many columns, transposed."""
  if not columns:
    return content
  matrix = np.frombuffer(content, np.uint8).reshape(-1, columns)
  return np.ascontiguousarray(matrix.T).tobytes()
