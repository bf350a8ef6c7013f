# SPDX-License-Identifier: Apache-2.0
"""Collectives of a compiled program: how often devices exchange how much."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_KINDS = (
  "all-gather",
  "all-reduce",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)
# `%name = SHAPE all-reduce(...)`; an operation that ends one has no size of its
# own. A shape may be a tuple, and has layouts with parentheses and commas.
_OPERATION = re.compile(
  rf"^\s*(?:ROOT )?%?[\w.-]+ = (.*?) ({'|'.join(_KINDS)})(-start)?\(",
  re.MULTILINE,
)
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_BITS_OF_BYTE = 8


class Collectives(NamedTuple):
  """Exchanges of one call of a program.

  Attributes:
    number: how many there are; those in the body of a loop count once.
    num_bytes: bytes of their results on one device.
  """

  number: int
  num_bytes: int


def find_collectives(text: str) -> Collectives:
  """Finds the collectives of a program.

  Args:
    text: HLO of the compiled program.
  """
  found = list(_OPERATION.finditer(text))
  return Collectives(len(found), sum(map(_num_bytes, found)))


def _num_bytes(operation: re.Match) -> int:
  shape, kind, starts = operation.groups()
  sizes = [
    math.ceil(
      int(bits or _BITS_OF_BYTE)
      * math.prod(int(n) for n in dimensions.split(",") if n)
      / _BITS_OF_BYTE
    )
    for _, bits, dimensions in _ARRAY.findall(shape)
  ]
  # One that starts an exchange may return its arguments as well.
  if starts and kind != "all-reduce" and len(sizes) > 1:
    return sizes[1]
  return sum(sizes)
