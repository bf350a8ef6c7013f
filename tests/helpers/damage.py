# SPDX-License-Identifier: Apache-2.0
"""Damaged files: bits flipped, ends cut off, parts missing or random."""

from __future__ import annotations

import os
import random
import resource

# How many damaged files a test makes is multiplied by this; 1 in CI.
ROUNDS_VARIABLE = "RIGL_DAMAGE_ROUNDS"
# Linux counts it in KiB.
_RSS_UNIT = 1024


def rounds(number: int) -> int:
  """The number of rounds of a test that makes `number` of them in CI."""
  return number * int(os.environ.get(ROUNDS_VARIABLE, "1"))


def damaged(content: bytes, rng: random.Random) -> bytes:
  """A copy with one kind of damage; it may be equal by chance.

  Args:
    content: what is damaged.
    rng: decides where and how.
  """
  data = bytearray(content)
  size = len(data)
  # Headers are short, so half of all damage is done to the start.
  end = size if rng.random() < 0.5 else min(size, 200)
  start = rng.randrange(max(end, 1))
  kind = rng.randrange(8)
  if kind == 0:
    return bytes(data[:start])
  if kind == 1:
    return rng.randbytes(rng.choice([0, 1, 7, 100, 5000]))
  if kind == 2:
    del data[start : start + rng.choice([1, 4, 100])]
  elif kind == 3:
    data[start:start] = rng.randbytes(rng.choice([1, 4, 100]))
  elif kind == 4:
    stop = min(start + rng.choice([4, 8, 64]), size)
    data[start:stop] = bytes([rng.choice([0, 255])]) * (stop - start)
  elif kind == 5 and size:
    stop = min(start + 100, size)
    data[start:stop] = rng.randbytes(stop - start)
  else:
    for _ in range(rng.choice([1, 1, 1, 5]) if size else 0):
      data[rng.randrange(start, size)] ^= 1 << rng.randrange(8)
  return bytes(data)


def peak_memory() -> int:
  """The most memory that this process had, in bytes."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
