# SPDX-License-Identifier: Apache-2.0
"""Layout of compact files.

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
mask, and values for all its entries.
"""

from __future__ import annotations

import struct

MAGIC = b"\x93RIGL\r\n\x1a"
VERSION = 1
# Magic number, version, checksum and length of the header, length of the file.
FIXED = struct.Struct("<8sIIQQ")
# The types of stored values.
STORED = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")
