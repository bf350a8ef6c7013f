# SPDX-License-Identifier: Apache-2.0
"""A sparse variable of a model, as the optimizers see it.

Most have a mask beside them. Those of layers that store only their active
connections (`rigl.sparse`) have none: what is stored is active.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.keras import replicas
from rigl.keras.slots import Slot, Slots
from rigl.sparse_optimizers import restored
from rigl.sparse_optimizers.compact import kept_connections
from rigl.sparse_optimizers.sparse_layer import (
  NO_POSITION,
  BlockLayer,
  CompactLayer,
)
from rigl.structures import Groups
from rigl.types import Tensor, Variable


@dataclass(frozen=True, eq=False)
class SparseKernel:
  """A sparse variable, its mask and its slots.

  Attributes:
    path: path of the variable; masks and sparsities are keyed by it.
    name: its number among the sparse variables, which random numbers are
      derived from. Paths would not do: Keras numbers layers through all models
      of a process, and a model from a file may have other paths.
    variable: the weights, zero wherever the mask is.
    slots: the slots that the inner optimizer keeps for the weights.
    sparsity: share of zeros that the distribution gives it.
    stored_mask: bool variable of the same shape; true means active. None for a
      layer that stores only active connections or blocks.
    groups: groups of connections that each keep their number of active ones;
      None where only the variable does.
    compact: the layer that stores only its active connections, whose values
      are `variable`; None for an ordinary kernel.
    blocks: the layer that stores only its active blocks, which are `variable`;
      None for others.
  """

  path: str
  name: str
  variable: keras.Variable
  slots: Slots
  sparsity: float
  stored_mask: keras.Variable | None = None
  groups: Groups | None = None
  compact: CompactLayer | None = None
  blocks: BlockLayer | None = None

  @property
  def mask(self) -> Any:
    """Bool, of the shape of `variable`: a variable, or a tensor."""
    if self.blocks is not None:
      return tf.ones(tuple(self.variable.shape), tf.bool)
    if self.compact is None:
      return self.stored_mask
    return tf.convert_to_tensor(self.compact.positions) < NO_POSITION

  @property
  def whole_mask(self) -> Any:
    """The mask of all connections, of the kernel's shape."""
    if self.blocks is not None:
      size = self.variable.shape[1]
      return tf.repeat(tf.repeat(self.snapshot(), size, 0), size, 1)
    if self.compact is None:
      return self.stored_mask
    positions = tf.convert_to_tensor(self.compact.positions)
    active = tf.boolean_mask(positions, positions < NO_POSITION)
    flat = tf.scatter_nd(
      active[:, None], tf.ones_like(active, tf.bool), [self.size]
    )
    return tf.reshape(flat, self.shape)

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the kernel, active and inactive connections."""
    return tuple((self.compact or self.blocks or self.variable).shape)

  @property
  def size(self) -> int:
    """The number of connections, active or not."""
    return int(np.prod(self.shape, dtype=np.int64))

  @property
  def name_hash(self) -> int:
    """CRC-32 of the name: the same in every process, unlike hash()."""
    return zlib.crc32(self.name.encode())

  def count_active(self) -> int:
    """The number of active connections."""
    return int(np.count_nonzero(self.mask.numpy()))

  def snapshot(self) -> Tensor:
    """What `count_changes` compares with: which connections are active."""
    if self.blocks is not None:
      return mask_ops.grid_of(
        tf.convert_to_tensor(self.blocks.outputs_of),
        self.blocks.numbers_of.shape[0],
      )
    if self.compact is None:
      return tf.convert_to_tensor(self.stored_mask)
    return tf.identity(tf.convert_to_tensor(self.compact.positions))

  def count_changes(self, before: Tensor) -> Tensor:
    """The connections turned on or off since a `snapshot`, int32 scalar."""
    now = self.snapshot()
    if self.compact is None:
      changed = mask_ops.count_ones(tf.reshape(tf.not_equal(before, now), [-1]))
      per_entry = 1 if self.blocks is None else self.variable.shape[1] ** 2
      return changed * per_entry
    return _count_moved(before, now)

  def set_mask(self, mask: Tensor) -> None:
    """Replaces the mask by one with no new connections.

    Weights and slots that it turns off are cleared afterwards, by `clear`.

    Args:
      mask: bool, flat.
    """
    if self.compact is None:
      replicas.assign(
        self.stored_mask, tf.reshape(mask, tuple(self.variable.shape))
      )
      return
    slots = self.slots.all()
    _, positions, values, moved = kept_connections(
      mask,
      tf.convert_to_tensor(self.compact.positions),
      tf.convert_to_tensor(self.variable),
      [tf.convert_to_tensor(slot.variable) for slot in slots],
      [slot.start for slot in slots],
    )
    self.compact.set_connections(positions, values)
    for slot, value in zip(slots, moved, strict=True):
      replicas.assign(slot.variable, value)

  def mask_with_weights(self) -> np.ndarray:
    """The mask as it would be with all weights, which may have been assigned.

    Returns:
      bool, of the shape of `mask`, which it is where it has all weights; moved
      to them where they are not more; else `mask` and all weights.
    """
    mask = np.asarray(self.mask.numpy())
    if self.stored_mask is None:
      return mask
    weights = np.asarray(self.variable.numpy())
    return restored.mask_with_weights(weights, mask) | (weights != 0)

  def move_mask(self) -> None:
    """Moves the mask to weights that were assigned, if it can hold them all.

    It keeps its number of connections. Slots stay as they are.
    """
    if self.stored_mask is None or self.groups is not None:
      return
    mask = self.stored_mask.numpy()
    if not mask.all():
      weights = np.asarray(self.variable.numpy())
      self.stored_mask.assign(restored.mask_with_weights(weights, mask))

  def warn_of_lost_weights(self) -> bool:
    """Warns if weights are not zero off the mask; returns whether they are."""
    if self.stored_mask is None:
      return False
    weights = np.asarray(self.variable.numpy())
    mask = self.stored_mask.numpy()
    return restored.warn_of_lost_weights(self.path, weights, mask)

  def clear(self, all_slots: bool) -> None:
    """Sets weights and slots of inactive connections to their start.

    Args:
      all_slots: whether to clear slots that no step changes, too.
    """
    if self.blocks is not None:
      return  # All that is stored is active.
    replicas.update(self.variable, keep_masked, self.mask)
    for slot in self.slots.all() if all_slots else self.slots.changing():
      _clear_slot(slot, self.mask)


def make_mask(path: str, mask: np.ndarray) -> keras.Variable:
  """Creates the mask of a variable.

  Args:
    path: path of the variable.
    mask: bool array of its shape.
  """
  return keras.Variable(
    mask,
    dtype="bool",
    trainable=False,
    aggregation="only_first_replica",
    name=f"{path.replace('/', '_')}_mask",
  )


def stored_masks(kernels: Sequence[SparseKernel]) -> list[keras.Variable]:
  """The mask variables, which compact layers do not have."""
  return [k.stored_mask for k in kernels if k.stored_mask is not None]


def keep_masked(variable: Variable, mask: Tensor, start: float = 0.0) -> None:
  """Sets a variable to `start` wherever the mask is false."""
  value = tf.convert_to_tensor(variable)
  variable.assign(tf.where(mask, value, tf.constant(start, value.dtype)))


def _clear_slot(slot: Slot, mask: Any) -> None:
  start = slot.start or 0.0  # A copy of an inactive weight is zero.
  replicas.update(
    slot.variable,
    lambda variable, kept: keep_masked(variable, kept, start),
    mask,
  )


def _count_moved(before: Tensor, now: Tensor) -> Tensor:
  """The positions in one of two ascending lists, not in both; int32 scalar."""
  if not before.shape[0]:
    return tf.constant(0)
  place = tf.minimum(tf.searchsorted(before, now), before.shape[0] - 1)
  both = tf.equal(tf.gather(before, place), now) & (now < NO_POSITION)
  count = mask_ops.count_ones
  total = count(before < NO_POSITION) + count(now < NO_POSITION)
  return total - 2 * count(both)
