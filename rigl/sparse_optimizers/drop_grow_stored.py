# SPDX-License-Identifier: Apache-2.0
"""Drop and grow of layers that store only their active parts.

The layers of `rigl.sparse` store connections or blocks. The part of
`drop_grow.DropGrowOptimizer` that knows their storage is here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from rigl.schedules import UpdateSchedule
from rigl.sparse_optimizers import blocks
from rigl.sparse_optimizers.compact import moved_connections
from rigl.sparse_optimizers.dense_rows import RowSignal, no_signal
from rigl.sparse_optimizers.drop_grow_rule import DropGrowRule
from rigl.sparse_optimizers.exploring import ExploringOptimizer
from rigl.sparse_optimizers.sparse_layer import (
  BlockLayer,
  CompactLayer,
  SparseLayer,
)
from rigl.types import Tensor


class StoredDropGrow(DropGrowRule, ExploringOptimizer):
  """Drops and grows connections and blocks of layers of `rigl.sparse`.

  A method whose growth scores need a signal overrides `_signal_of_rows` and
  `_signal_of_blocks`, and may refuse such layers.
  """

  takes_block_layers = True
  _schedule: UpdateSchedule

  def _update_blocks(
    self,
    layer: SparseLayer,
    own: BlockLayer,
    signal: Tensor | None,
    key: Tensor,
    fraction: Tensor,
  ) -> list[tf.Operation]:
    """Drop and grow of a layer that stores only its active blocks."""
    return blocks.update_layer(
      self,
      own,
      self._slots_of(layer.kernel),
      key,
      fraction,
      self._schedule.drop_fraction,
      signal,
    )

  def _update_compact(
    self,
    layer: SparseLayer,
    compact: CompactLayer,
    signal: Tensor | None,
    key: Tensor,
    fraction: Tensor,
  ) -> list[tf.Operation]:
    """Drop and grow of a layer that stores only its active connections."""
    slots = self._slots_of(layer.kernel)
    positions, values, moved = moved_connections(
      self,
      layer.shape,
      compact.positions.read_value(),
      layer.kernel.read_value(),
      [slot.read_value() for slot, _ in slots],
      [start for _, start in slots],
      key,
      fraction,
      signal,
      functools.partial(self._signal_of_rows, layer, compact),
    )
    return [
      *compact.set_connections(positions, values),
      *(slot.assign(new) for (slot, _), new in zip(slots, moved, strict=True)),
    ]

  def _signal_of_rows(
    self,
    layer: SparseLayer,
    compact: CompactLayer,
    positions: np.ndarray,
    sampled: np.ndarray,
  ) -> RowSignal:
    """Hook: `_signal` of a layer that stores only its active connections.

    It is called on the host.

    Args:
      layer: the layer, as the optimizer sees it.
      compact: the layer itself.
      positions: int32 [n], its active connections.
      sampled: [n], what `_signal` gave for them; zeros if that was None.
    """
    del layer, compact, positions, sampled
    return no_signal

  def _signal_of_blocks(self, layer: BlockLayer) -> Tensor | None:
    """Hook: `_signal` of all blocks, [input blocks, output blocks]."""
    del layer
    return None

  def _check_compact(self, masks: Mapping[str, Tensor], in_graph: bool) -> None:
    super()._check_compact(masks, in_graph)
    self._options.check_stored("connections")
    if self._grow_init.method == "initial_dist":
      raise ValueError(
        "`grow_init` must not be 'initial_dist' with layers that store only "
        "their active connections: they have no other initial weights."
      )

  def _check_blocks(self, masks: Mapping[str, Tensor], in_graph: bool) -> None:
    super()._check_blocks(masks, in_graph)
    self._options.check_stored("blocks")
    if self._grow_init.method != "zeros":
      raise ValueError(
        "`grow_init` must be 'zeros' with layers that store only their active "
        f"blocks, got {self._grow_init.method!r}."
      )
