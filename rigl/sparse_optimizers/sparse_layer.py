# SPDX-License-Identifier: Apache-2.0
"""A sparse layer: a kernel, its mask, and the names of both."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.sparse_optimizers import sorted_positions
from rigl.structures import Groups
from rigl.types import Tensor, Variable

# Fills up the positions of a compact layer where connections were removed.
NO_POSITION = 2**31 - 1


@runtime_checkable
class CompactLayer(Protocol):
  """A layer whose kernel is a list of values at positions.

  Attributes:
    name: the layer's name.
    shape: [inputs, outputs] of the kernel.
    values: float variable [connections].
    positions: int32 variable [connections], ascending; the last ones may be
      `NO_POSITION`, with values 0.
    digest: int64 variable, a number that differs for different positions.
  """

  name: str
  shape: tf.TensorShape
  values: Variable
  positions: Variable
  digest: Variable

  def keep_batches(self, wanted: bool = True) -> None:
    """Keeps what the dense gradient is made of, for `take_batches`.

    Args:
      wanted: False ends what another call has begun.
    """

  def take_batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of inputs [inputs, batch] and output gradients [outputs, batch]."""

  def set_connections(
    self, positions: Tensor, values: Tensor
  ) -> list[tf.Operation]:
    """Replaces all connections."""


@runtime_checkable
class BlockLayer(Protocol):
  """A layer whose kernel is a list of b x b blocks.

  Every block of outputs reads the same number of input blocks, and every input
  block is read by the same number of output blocks.

  Attributes:
    name: the layer's name.
    shape: [inputs, outputs] of the kernel.
    values: float variable [blocks, b, b], ordered by input block.
    outputs_of: int32 variable [input blocks, blocks per input], the output
      blocks that read each input block, ascending.
    numbers_of: int32 variable [output blocks, blocks per output], the numbers
      of the blocks of each output block, ascending.
  """

  name: str
  shape: tf.TensorShape
  values: Variable
  outputs_of: Variable
  numbers_of: Variable

  def keep_batches(self, wanted: bool = True) -> None:
    """Keeps what the dense gradient is made of, for `take_batches`.

    Args:
      wanted: False ends what another call has begun.
    """

  def take_batches(self) -> list[tuple[Tensor, Tensor]]:
    """Inputs and output gradients, [input or output blocks, b, tokens]."""


@dataclass(frozen=True)
class SparseLayer:
  """A kernel and its mask.

  Attributes:
    name: the layer's name; masks and custom sparsities are keyed by it.
    kernel: float variable; zero wherever the mask is.
    mask: bool variable of the same shape; true means active.
    groups: groups of connections that each keep their number of active ones;
      None where only the layer does.
    compact: the layer that stores only its active connections; `kernel` is then
      its values and `mask` says which of them are in use. None: a kernel of
      ordinary shape.
    blocks: the layer that stores only its active blocks; `kernel` is then its
      values, and `mask` is true everywhere. None: it has no blocks.
  """

  name: str
  kernel: Variable
  mask: Variable
  groups: Groups | None = None
  compact: CompactLayer | None = None
  blocks: BlockLayer | None = None

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the whole kernel, active and inactive connections."""
    return tuple((self.compact or self.blocks or self.kernel).shape)

  @property
  def size(self) -> int:
    """The number of connections, active and inactive."""
    return math.prod(self.shape)

  @property
  def structure(self) -> tuple[Variable, ...]:
    """The variables that say where connections are, beside a mask."""
    if self.compact is not None:
      return self.compact.positions, self.compact.digest
    if self.blocks is not None:
      return self.blocks.outputs_of, self.blocks.numbers_of
    return ()

  def active_positions(self) -> np.ndarray:
    """Int64 [active], index into the flat kernel, ascending; eagerly."""
    if self.blocks is not None:
      size = self.kernel.shape[1]
      grid = self.snapshot().numpy()
      return np.flatnonzero(np.kron(grid, np.ones((size, size), bool)))
    if self.compact is None:
      return np.flatnonzero(self.mask.numpy())
    return self.compact.positions.numpy()[self.mask.numpy()].astype(np.int64)

  def snapshot(self) -> Tensor:
    """What `count_changes` compares with: which connections are active."""
    if self.compact is not None:
      return tf.where(self.mask, self.compact.positions, -1)
    if self.blocks is not None:
      columns = self.blocks.numbers_of.shape[0]
      return mask_ops.grid_of(self.blocks.outputs_of.read_value(), columns)
    return self.mask.read_value()

  def count_changes(self, before: Tensor) -> Tensor:
    """The connections that were turned on or off since a `snapshot`, int32."""
    now = self.snapshot()
    if self.compact is None:
      changed = mask_ops.count_ones(tf.not_equal(before, now))
      if self.blocks is None:
        return changed
      return changed * math.prod(self.kernel.shape[1:])
    changed = tf.numpy_function(_num_changes, [before, now], tf.int32)
    return tf.ensure_shape(changed, [])

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


def _num_changes(before: np.ndarray, now: np.ndarray) -> np.int32:
  both = (positions[positions >= 0] for positions in (before, now))
  return np.int32(sorted_positions.count_differences(*both))


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
  """The keys of the random numbers of layers at a step.

  Args:
    layers: the layers.
    seed: the seed of the run.
    step: int scalar.

  Returns:
    uint32 [2] for each layer, which its name decides as well.
  """
  hashes = [layer.name_hash for layer in layers]
  return tf.unstack(mask_ops.hash_key(seed, hashes, step))
