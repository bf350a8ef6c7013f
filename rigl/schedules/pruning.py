# SPDX-License-Identifier: Apache-2.0
"""Gradual pruning: when masks are made, and how sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rigl.checks import check_number
from rigl.schedules.float32 import ONE, unwrap
from rigl.schedules.update_window import UpdateWindow


@dataclass(frozen=True)
class PruningSchedule(UpdateWindow):
  """Gradual pruning: when masks are made, and how sparse.

  Zhu & Gupta, 2017, https://arxiv.org/abs/1710.01878, section 3. With p as in
  `UpdateSchedule`, kept in [0, 1], the sparsity is

    target_sparsity + (initial_sparsity - target_sparsity) * (1 - p) ** exponent

  before, in and after the window.

  >>> schedule = PruningSchedule(0, 100, 10, 0.5)
  >>> [float(schedule.sparsity_at(step)) for step in (0, 50, 100, 101)]
  [0.0, 0.4375, 0.5, 0.5]

  Args:
    begin_step: first step that may update, at least 0.
    end_step: last step that may update, more than `begin_step`.
    frequency: least number of steps between two updates, at least 1.
    target_sparsity: final share of zeros, in [0, 1).
    initial_sparsity: first share of zeros, in [0, target_sparsity].
    exponent: positive; 3 as in the paper.

  Raises:
    ValueError: if an argument is not as described.
  """

  target_sparsity: float
  initial_sparsity: float = 0.0
  exponent: float = 3.0

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.end_step <= self.begin_step:
      raise ValueError(
        f"`end_step` must be more than `begin_step` ({self.begin_step}), got "
        f"{self.end_step}."
      )
    _check_sparsity(self.target_sparsity)
    check_number("initial_sparsity", self.initial_sparsity)
    if not 0 <= self.initial_sparsity <= self.target_sparsity:
      raise ValueError(
        "`initial_sparsity` must be in [0, `target_sparsity`] = "
        f"[0, {self.target_sparsity}], got {self.initial_sparsity}."
      )
    check_number("exponent", self.exponent, 0, above=True)

  def sparsity_at(
    self, step: Any, ops: Any = np, target_sparsity: float | None = None
  ) -> Any:
    """Share of zeros that a mask made at `step` has.

    Args:
      step: the step: numbers, or tensors together with `ops=tf`.
      ops: module with `minimum` and `maximum`.
      target_sparsity: final sparsity of one layer, in [0, 1). Its sparsity is
        that of the schedule times `target_sparsity / self.target_sparsity`.
        None for the schedule's own.

    Returns:
      float32 in [0, 1), of the shape of `step`.

    Raises:
      ValueError: if `target_sparsity` is out of its range, or is not 0 while
        the schedule's is.
    """
    target = np.float32(self.target_sparsity)
    missing = np.float32(self.initial_sparsity) - target
    remaining = ONE - self.progress(step, ops)
    sparsity = missing * remaining ** np.float32(self.exponent) + target
    if target_sparsity is not None:
      sparsity = sparsity * self._layer_scale(target_sparsity)
    return unwrap(sparsity)

  def _layer_scale(self, target_sparsity: float) -> np.float32:
    _check_sparsity(target_sparsity)
    if self.target_sparsity == 0 < target_sparsity:
      raise ValueError(
        "`target_sparsity` of a layer must be 0 where the schedule's is, got "
        f"{target_sparsity}."
      )
    return np.float32(target_sparsity / (self.target_sparsity or 1))


def _check_sparsity(value: float) -> None:
  check_number("target_sparsity", value, 0, 1, below=True)
