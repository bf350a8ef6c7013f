# SPDX-License-Identifier: Apache-2.0
"""Optimizers that may note which connections were ever active."""

from __future__ import annotations

from rigl.checks import check_flag
from rigl.sparse_optimizers.exploration import Exploration
from rigl.sparse_optimizers.scheduled import ScheduledOptimizer
from rigl.sparse_optimizers.sparse_layer import SparseLayer


class ExploringOptimizer(ScheduledOptimizer):
  """A scheduled optimizer that notes what it explores, if asked to.

  A method calls `_track` in its constructor.
  """

  def _track(self, track_exploration: bool) -> None:
    """Decides whether connections are tracked.

    Raises:
      ValueError: if it is no bool.
    """
    check_flag("track_exploration", track_exploration)
    self._exploration = Exploration() if track_exploration else None

  def _prepare_layer(self, layer: SparseLayer) -> None:
    super()._prepare_layer(layer)
    if self._exploration is not None:
      self._exploration.add(layer, self._new_state)

  def _adopt(self, layer: SparseLayer, of_kernel: bool, of_mask: bool) -> None:
    super()._adopt(layer, of_kernel, of_mask)
    if self._exploration is not None:
      self._exploration.adopt(layer)
