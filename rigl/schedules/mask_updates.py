# SPDX-License-Identifier: Apache-2.0
"""Mask updates of drop-and-grow methods: their steps and drop fractions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigl.checks import check_number
from rigl.schedules.float32 import HALF, ONE, PI, ZERO, unwrap
from rigl.schedules.update_window import UpdateWindow

KNOWN_ANNEALS = ("constant", "cosine", "exponential", "exponential_K")


@dataclass(frozen=True)
class UpdateSchedule(UpdateWindow):
  """When connections are dropped and grown, and how many.

  Evci et al., 2020, https://arxiv.org/abs/1911.11134, section 3: "Update
  schedule". With p = (step - begin_step) / (end_step - begin_step), the share
  of the active connections that is dropped is, inside the window,

  * `constant`: drop_fraction,
  * `cosine`: drop_fraction * (1 + cos(pi * p)) / 2,
  * `exponential_K`: drop_fraction * (1 - p) ** K; `exponential` is K = 1,

  and 0 outside.

  >>> schedule = UpdateSchedule(0, 100, 10, 0.5, 'exponential')
  >>> [float(schedule.drop_fraction_at(step)) for step in (0, 50, 100, 101)]
  [0.5, 0.25, 0.0, 0.0]

  Note:
    In the published code cosine annealing counts from step 0 whatever
    `begin_step` is. Without an end it drops nothing, and the exponential one
    drops ever more; here an endless schedule keeps the initial fraction.

  Args:
    begin_step: first step that may update, at least 0.
    end_step: last step that may update; negative for no end.
    frequency: least number of steps between two updates, at least 1.
    drop_fraction: initial share of the active connections to drop, in [0, 1].
    drop_fraction_anneal: `constant`, `cosine`, `exponential` or
      `exponential_K` with a number K > 0, such as `exponential_3`.

  Raises:
    ValueError: if an argument is not as described.
  """

  drop_fraction: float = 0.1
  drop_fraction_anneal: str = "constant"

  def __post_init__(self) -> None:
    super().__post_init__()
    check_number("drop_fraction", self.drop_fraction, 0, 1)
    _parse_anneal(self.drop_fraction_anneal)

  def drop_fraction_at(self, step: Any, ops: Any = np) -> Any:
    """Share of the active connections to drop in an update at `step`.

    Args:
      step: the step: numbers, or tensors together with `ops=tf`.
      ops: module with `cos`, `minimum`, `maximum` and `where`.

    Returns:
      float32 in [0, drop_fraction], of the shape of `step`.
    """
    kind, power = _parse_anneal(self.drop_fraction_anneal)
    fraction = np.float32(self.drop_fraction)
    if kind == "cosine":
      cosine = ops.cos(PI * self.progress(step, ops))
      fraction = fraction * (HALF + HALF * cosine)
    elif kind == "exponential":
      fraction = fraction * (ONE - self.progress(step, ops)) ** power
    return unwrap(ops.where(self.contains(step), fraction, ZERO))


def _parse_anneal(name: str) -> tuple[str, np.float32]:
  """Kind of annealing, and its power (1 where it has none)."""
  if not isinstance(name, str):
    raise ValueError(
      f"`drop_fraction_anneal` must be in {KNOWN_ANNEALS}, got {name!r}; "
      "without annealing it is 'constant'."
    )
  if name in ("constant", "cosine", "exponential"):
    return name, ONE
  kind, _, power = name.partition("_")
  try:
    parsed = float(power)
  except ValueError:
    parsed = math.nan
  if kind != "exponential" or not 0 < parsed < math.inf:
    raise ValueError(
      f"`drop_fraction_anneal` must be in {KNOWN_ANNEALS} with a number K > 0, "
      f"got {name!r}."
    )
  return kind, np.float32(parsed)
