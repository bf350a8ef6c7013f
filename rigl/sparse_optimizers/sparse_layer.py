# SPDX-License-Identifier: Apache-2.0
"""A sparse layer: a kernel, its mask, and the names of both."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from rigl import mask_ops
from rigl.structures import Groups
from rigl.types import Tensor, Variable


@dataclass(frozen=True)
class SparseLayer:
  """A kernel and its mask.

  Attributes:
    name: the layer's name; masks and custom sparsities are keyed by it.
    kernel: float variable; zero wherever the mask is.
    mask: bool variable of the same shape; true means active.
    groups: groups of connections that each keep their number of active ones;
      None where only the layer does.
  """

  name: str
  kernel: Variable
  mask: Variable
  groups: Groups | None = None

  @property
  def kernel_name(self) -> str:
    """The kernel's name if it starts with the layer's, else LAYER/weights."""
    path = bare_name(self.kernel)
    if path == self.name or path.startswith(f"{self.name}/"):
      return path
    return f"{self.name}/weights"

  @property
  def name_hash(self) -> int:
    """CRC-32 of the name: the same in every process, unlike hash()."""
    return zlib.crc32(self.name.encode())


def bare_name(variable: Variable) -> str:
  """The variable's name without the output number, `a/b:0` -> `a/b`."""
  return variable.name.split(":")[0]


def slot_names(slots: Sequence[Variable]) -> list[str]:
  """Names of an optimizer's slots, as if no other optimizer existed.

  TensorFlow numbers the slots of one variable through all optimizers: those
  of a first Adam end in `Adam` and `Adam_1`, those of a second one in
  `Adam_2` and `Adam_3`, but checkpoints have the former names.
  """
  parsed = []
  for slot in slots:
    name = bare_name(slot)
    base, _, number = name.rpartition("_")
    parsed.append((base, int(number)) if number.isdigit() else (name, 0))
  numbers: dict[str, list[int]] = defaultdict(list)
  for base, place in sorted(parsed):
    numbers[base].append(place)
  ranks = [(base, numbers[base].index(place)) for base, place in parsed]
  return [f"{base}_{rank}" if rank else base for base, rank in ranks]


def layer_keys(
  layers: Sequence[SparseLayer], seed: int, step: Tensor
) -> list[Tensor]:
  """The uint32 [2] keys of the layers' random numbers at a step."""
  hashes = [layer.name_hash for layer in layers]
  return tf.unstack(mask_ops.hash_key(seed, hashes, step))
