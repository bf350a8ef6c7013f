# SPDX-License-Identifier: Apache-2.0
"""Mask updates by a schedule, and the step of the last one."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rigl.schedules.update_window import UpdateWindow
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.base import SparseOptimizer
from rigl.types import Tensor, Variable


class ScheduledOptimizer(SparseOptimizer):
  """A sparse optimizer that updates its masks by a schedule.

  It adds one variable to the state: `last_mask_update_step`.

  Attributes:
    update_lag: gradient steps from the scheduled step to the value of
      `global_step` at the update.
  """

  update_lag = 0
  _schedule: UpdateWindow
  _last_update_step: Variable | None = None

  @property
  def last_update_step(self) -> Variable:
    """int64 variable: the step of the last update, -frequency before any.

    Raises:
      RuntimeError: if the masks are not created yet.
    """
    if self._last_update_step is None:
      raise RuntimeError(
        "Create the masks first, with sparsify() or create_masks()."
      )
    return self._last_update_step

  def steps_to_update(self, step: int) -> int | None:
    """The number of gradient steps from `step` until an update is due.

    Args:
      step: the current value of `global_step`.

    Returns:
      0 for now, before the next gradient step; None for never.
    """
    last = int(graph_control.read_on_host(self.last_update_step))
    # An update that follows a gradient step is never due before one.
    first = step if self.update_is_iteration else step + 1
    due = self._schedule.next_update_step(first - self.update_lag, last)
    return None if due is None else due + self.update_lag - step

  def num_updates_before(self, step: int) -> int:
    """The number of updates that the schedule has at steps below `step`.

    Args:
      step: a step of a run that starts at step 0.
    """
    schedule = self._schedule
    last = step - 1
    if schedule.end_step >= 0:
      last = min(last, schedule.end_step)
    return max((last - schedule.begin_step) // schedule.frequency + 1, 0)

  def mark_updated(self, step: Tensor) -> list[tf.Operation]:
    """Sets `last_update_step` to the scheduled step of an update."""
    return [self.last_update_step.assign(step - self.update_lag)]

  def _create_state(self) -> None:
    self._last_update_step = self._new_state(
      np.int64(self._schedule.initial_last_update_step),
      "last_mask_update_step",
    )

  def _is_due(self, step: Variable) -> Tensor:
    last = tf.convert_to_tensor(self.last_update_step)
    step = tf.cast(step, tf.int64) - self.update_lag
    return self._schedule.is_update_step(step, last)
