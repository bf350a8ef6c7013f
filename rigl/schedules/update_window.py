# SPDX-License-Identifier: Apache-2.0
"""Update window: the steps at which masks may change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigl.checks import check_integer
from rigl.schedules.float32 import ONE, ZERO, to_float32


@dataclass(frozen=True)
class UpdateWindow:
  """Steps `begin_step`, ..., `end_step`, at least `frequency` apart.

  Steps may be Python or NumPy numbers, arrays, or tensors.

  Attributes:
    begin_step: the first step of an update, at least 0.
    end_step: the last one, at least `begin_step`; negative for no end.
    frequency: the least distance of two updates in steps, at least 1.

  Raises:
    ValueError: if an argument is not as described.
  """

  begin_step: int
  end_step: int
  frequency: int

  def __post_init__(self) -> None:
    check_integer("begin_step", self.begin_step, 0)
    check_integer("end_step", self.end_step, -math.inf)
    check_integer("frequency", self.frequency, 1)
    if 0 <= self.end_step < self.begin_step:
      raise ValueError(
        f"`end_step` must be negative or at least `begin_step` "
        f"({self.begin_step}), got {self.end_step}."
      )

  @property
  def initial_last_update_step(self) -> int:
    """The last update step before any update, so that the first may come."""
    return -self.frequency

  def is_update_step(self, step: Any, last_update_step: Any) -> Any:
    """Whether the masks are updated at `step`.

    Args:
      step: the current step (integers; int64 in a graph).
      last_update_step: step of the last update, or `initial_last_update_step`.

    Returns:
      A boolean of the kind of the arguments: `begin_step <= step <= end_step`
      (no upper end if `end_step` is negative) and `last_update_step +
      frequency <= step`.
    """
    due = last_update_step + self.frequency <= step
    return self.contains(step) & due

  def precedes_update(
    self, step: Any, last_update_step: Any, distance: int
  ) -> Any:
    """Whether the next update comes within a few steps after `step`.

    Args:
      step: the current step (integers; int64 in a graph).
      last_update_step: step of the last update, or `initial_last_update_step`.
      distance: the most steps from `step` to the update.

    Returns:
      A boolean of the kind of the arguments: `step < due <= step + distance`,
      where the next update is due at the later of `begin_step` and
      `last_update_step + frequency`, unless that is after the end.
    """
    due = last_update_step + self.frequency
    comes = (step < self.begin_step) | (step < due)
    near = (self.begin_step <= step + distance) & (due <= step + distance)
    if self.end_step < 0:
      return comes & near
    return comes & near & (due <= self.end_step)

  def next_update_step(self, step: int, last_update_step: int) -> int | None:
    """The first update step that is not before `step`; None if there is none.

    Args:
      step: the current step, on the host.
      last_update_step: step of the last update, or `initial_last_update_step`.
    """
    due = max(step, self.begin_step, last_update_step + self.frequency)
    return due if self.end_step < 0 or due <= self.end_step else None

  def is_last_update_step(self, step: Any) -> Any:
    """Whether no update can follow one at `step`; never without an end.

    Args:
      step: the step of an update (integers; int64 in a graph).

    Returns:
      A boolean of the kind of the argument.
    """
    if self.end_step < 0:
      return step < step
    return self.end_step < step + self.frequency

  def contains(self, step: Any) -> Any:
    """Whether the window contains `step`: a boolean, array or tensor."""
    started = self.begin_step <= step
    if self.end_step < 0:
      return started
    return started & (step <= self.end_step)

  def progress(self, step: Any, ops: Any) -> Any:
    """Share of the window that has passed at `step`.

    Args:
      step: the step: numbers, or tensors together with `ops=tf`.
      ops: module with `minimum` and `maximum`.

    Returns:
      float32 in [0, 1]; 0 without an end.
    """
    # Times the reciprocal: graph compilers turn the quotient into that, so
    # that only this gives the host the same bits (and the published numbers).
    n_steps = self.end_step - self.begin_step
    reciprocal = ONE / np.float32(n_steps) if n_steps > 0 else ZERO
    passed = to_float32(step - self.begin_step, ops) * reciprocal
    return ops.minimum(ops.maximum(passed, ZERO), ONE)
