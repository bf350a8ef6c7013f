# SPDX-License-Identifier: Apache-2.0
"""TPUs that programs can be compiled for.

The memory sizes are the usable memory of a core as reported by libtpu 0.0.52.
"""

from __future__ import annotations

import re
from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
  """A kind of TPU.

  Attributes:
    name: first part of the names of its topologies.
    hbm_gib: GiB of memory that a program on one device can use.
    example: an example of a topology.
    config: configuration of the cores; None for libtpu's default.
  """

  name: str
  hbm_gib: float
  example: str
  config: str | None = None


# The two cores of a v4 or v5p chip are one device, `megacore`; each core of a
# v2, v3 or 7x chip is one.
CHIPS = {
  chip.name: chip
  for chip in (
    Chip("v2", 7.48, "v2:2x2"),
    Chip("v3", 15.48, "v3:2x2"),
    Chip("v4", 30.75, "v4:2x2x1", "megacore"),
    Chip("v5e", 15.75, "v5e:2x2"),
    Chip("v5p", 95.73, "v5p:2x2x1"),
    Chip("v6e", 31.24, "v6e:2x2"),
    Chip("tpu7x", 94.74, "tpu7x:2x2x1"),
  )
}


def parse(topology: str) -> Chip:
  """The chip of a topology such as `v5e:2x2`.

  Args:
    topology: name of the chip, colon, chips in each dimension.

  Raises:
    ValueError: if the name has another form or the chip is unknown.
  """
  name, _, shape = topology.partition(":")
  if name not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
    examples = ", ".join(chip.example for chip in CHIPS.values())
    raise ValueError(
      f"`topology` must be a TPU and its chips in each dimension, such as "
      f"{examples}; got {topology!r}."
    )
  return CHIPS[name]
