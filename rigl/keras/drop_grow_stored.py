# SPDX-License-Identifier: Apache-2.0
"""Drop and grow of Keras layers that store only their active parts.

The layers of `rigl.sparse` store connections or blocks. The part of
`drop_grow.DropGrowOptimizer` that knows their storage is here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from rigl.keras import replicas
from rigl.keras.block_layers import move_blocks
from rigl.keras.compact_layers import SparseStorage
from rigl.keras.scheduled import ScheduledOptimizer
from rigl.keras.sparse_kernel import SparseKernel
from rigl.schedules import UpdateSchedule
from rigl.sparse_optimizers.compact import moved_connections
from rigl.sparse_optimizers.dense_rows import RowSignal, no_signal
from rigl.sparse_optimizers.drop_grow_rule import DropGrowRule
from rigl.sparse_optimizers.sparse_layer import BlockLayer, CompactLayer
from rigl.types import Tensor


class StoredDropGrow(DropGrowRule, ScheduledOptimizer):
  """Drops and grows connections and blocks of layers of `rigl.sparse`.

  A method whose growth scores need a signal overrides `_signal_of_rows` and
  `_signal_of_blocks`, and may refuse such layers.
  """

  takes_block_layers = True
  _schedule: UpdateSchedule
  _grow_init_name: str

  def _distribute(
    self,
    shapes: dict[str, tuple[int, ...]],
    stored: Mapping[str, SparseStorage],
  ) -> dict[str, float]:
    for layer in stored.values():
      is_block = isinstance(layer, BlockLayer)
      self._options.check_stored("blocks" if is_block else "connections")
    if stored and self._grow_init.method == "initial_dist":
      raise ValueError(
        "`grow_init` must not be 'initial_dist' with layers that store only "
        f"their active connections, such as {next(iter(stored))!r}: they have "
        "no other initial weights."
      )
    has_blocks = any(isinstance(la, BlockLayer) for la in stored.values())
    if has_blocks and self._grow_init.method != "zeros":
      raise ValueError(
        "`grow_init` must be 'zeros' with layers that store only their active "
        f"blocks, got {self._grow_init_name!r}."
      )
    return super()._distribute(shapes, stored)

  def _move_blocks(
    self,
    kernel: SparseKernel,
    layer: BlockLayer,
    key: Tensor,
    fraction: Tensor,
  ) -> None:
    """Drop and grow of a layer that stores only its active blocks."""
    move_blocks(
      self,
      kernel,
      layer,
      key,
      fraction,
      self._schedule.drop_fraction,
      self._signal_of_blocks(layer),
    )

  def _move(
    self,
    kernel: SparseKernel,
    compact: CompactLayer,
    signal: Tensor | None,
    key: Tensor,
    fraction: Tensor,
  ) -> None:
    """Drop and grow of a layer that stores only its active connections."""
    slots = kernel.slots.all()
    positions, values, moved = moved_connections(
      self,
      kernel.shape,
      tf.convert_to_tensor(compact.positions),
      tf.convert_to_tensor(kernel.variable),
      [tf.convert_to_tensor(slot.variable) for slot in slots],
      [slot.start for slot in slots],
      key,
      fraction,
      signal,
      functools.partial(self._signal_of_rows, kernel, compact),
    )
    compact.set_connections(positions, values)
    for slot, value in zip(slots, moved, strict=True):
      replicas.assign(slot.variable, value)

  def _signal_of_blocks(self, layer: BlockLayer) -> Tensor | None:
    """Hook: the signal of all blocks, [input blocks, output blocks]."""
    del layer
    return None

  def _signal_of_rows(
    self,
    kernel: SparseKernel,
    compact: CompactLayer,
    positions: np.ndarray,
    sampled: np.ndarray,
  ) -> RowSignal:
    """Hook: the signal of a layer that stores only its active connections.

    It is called on the host.

    Args:
      kernel: the layer, as the optimizer sees it.
      compact: the layer itself.
      positions: int32 [n], its active connections.
      sampled: [n], what `_signals` gave for them; zeros if that was None.
    """
    del kernel, compact, positions, sampled
    return no_signal
