# SPDX-License-Identifier: Apache-2.0
"""Tells what a file is from its first bytes, for messages about wrong files."""

from __future__ import annotations

# First bytes, and what a file that starts with them is.
_KINDS = (
  (b"\x1f\x8b", "it is compressed with gzip; decompress it with gzip -d"),
  (b"BZh", "it is compressed with bzip2; decompress it with bzip2 -d"),
  (b"\xfd7zXZ", "it is compressed with xz; decompress it with xz -d"),
  (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; decompress it first"),
  (b"PK\x03\x04", "it is a ZIP archive; unpack it"),
  (b"\xff\xd8\xff", "it is a JPEG image"),
  (b"\x89PNG", "it is a PNG image"),
  (b"GIF8", "it is a GIF image"),
  (b"RIFF", "it is a RIFF file, such as WebP"),
  (b"\x89HDF", "it is an HDF5 file"),
  (b"\x93NUMPY", "it is a NumPy file"),
  (b"version https://git-lfs", "it is a pointer of Git LFS; run git lfs pull"),
)
_PAGE = "it is a web page: the download failed; download it again"
_ZLIB = "it is compressed with ZLIB; write it without compression"
_TAR = "it is a tar archive; unpack it"
_TAR_PLACE, _TAR_MARK = 257, b"ustar"

# How many bytes `kind_of` needs.
HEAD_BYTES = _TAR_PLACE + len(_TAR_MARK)


def kind_of(head: bytes) -> str | None:
  """What a file is that is not of the expected kind, with a cure.

  Args:
    head: its first `HEAD_BYTES` bytes, or all that there are.

  Returns:
    A clause such as "it is a ZIP archive; unpack it"; None if it is unknown.
  """
  for start, kind in _KINDS:
    if head.startswith(start):
      return kind
  text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
  if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
    return _PAGE
  if head[_TAR_PLACE:].startswith(_TAR_MARK):
    return _TAR
  is_zlib = len(head) > 1 and head[0] == 0x78
  if is_zlib and int.from_bytes(head[:2], "big") % 31 == 0:
    return _ZLIB
  return None
