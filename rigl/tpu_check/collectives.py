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
  sizes = (_num_bytes(o, _num_operands(text, o.end())) for o in found)
  return Collectives(len(found), sum(sizes))


def _num_operands(text: str, start: int) -> int:
  """Counts the operands of an operation.

  Args:
    text: HLO.
    start: where they begin, behind the parenthesis.
  """
  depth, commas = 1, 0
  for place in range(start, len(text)):
    sign = text[place]
    depth += (sign in "([{") - (sign in ")]}")
    if not depth:
      break
    commas += sign == "," and depth == 1
  return commas + 1


def _num_bytes(operation: re.Match, num_operands: int) -> int:
  """Bytes of the results.

  Args:
    operation: a match of `_OPERATION`.
    num_operands: how many arrays the operation takes.
  """
  shape, _, starts = operation.groups()
  sizes = [
    math.ceil(
      int(bits or _BITS_OF_BYTE)
      * math.prod(int(n) for n in dimensions.split(",") if n)
      / _BITS_OF_BYTE
    )
    for _, bits, dimensions in _ARRAY.findall(shape)
  ]
  # One that starts an exchange may return its operands as well, before the
  # results, and numbers after them.
  if starts and len(sizes) >= 2 * num_operands:
    return sum(sizes[num_operands : 2 * num_operands])
  return sum(sizes)
