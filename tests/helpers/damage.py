# SPDX-License-Identifier: Apache-2.0
"""Damaged files: bits flipped, ends cut off, parts missing or random."""

from __future__ import annotations

import os
import random
import re
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


# What replaces a number, a word or a value in a text.
_EXTREMES = (
  *("", "0", "-1", "-0.0", "1e400", "NaN", "Infinity", "9" * 400, "0x10"),
  *(
    "null",
    "None",
    "true",
    "{}",
    "[]",
    '""',
    '"x"',
    "@x",
    "%x",
    "\0",
    "\ufeff",
  ),
  *("[" * 5000, "(" * 5000, "{" * 200, '{"a":' * 3000, "a" * 100_000, "\r\n"),
)
_TOKEN = re.compile(r'"[^"\n]*"|[\w.+-]+|\s+|.', re.DOTALL)


def damaged_text(content: bytes, rng: random.Random) -> bytes:
  """A copy of a text with one damage of those that texts have."""
  if rng.random() < 0.3:
    return damaged(content, rng)
  text = content.decode()
  tokens = _TOKEN.findall(text)
  at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
  kind = rng.randrange(6)
  if kind <= 2:
    tokens[at] = rng.choice(_EXTREMES)
  elif kind == 3:
    tokens[at], tokens[other] = tokens[other], tokens[at]
  elif kind == 4:
    del tokens[at : at + rng.choice([1, 1, 3, 10])]
  else:
    tokens[at:at] = tokens[other : other + rng.choice([1, 3, 20])]
  found = "".join(tokens)
  if rng.random() < 0.05:
    found = found.replace("\n", "\r\n")
  encoding = rng.choice(["utf-8"] * 18 + ["utf-16", "utf-8-sig"])
  return found.encode(encoding)


def spliced(content: bytes, rng: random.Random) -> bytes:
  """A copy whose start and end are from different places of the file."""
  size = len(content) + 1
  return content[: rng.randrange(size)] + content[rng.randrange(size) :]


def peak_memory() -> int:
  """The most memory that this process had, in bytes."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
