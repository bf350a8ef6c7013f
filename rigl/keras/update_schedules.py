# SPDX-License-Identifier: Apache-2.0
"""Schedules of drop and grow, from the arguments of the Keras optimizers."""

from __future__ import annotations

from rigl.checks import check_integer
from rigl.schedules import UpdateSchedule


def update_schedule(
  begin_step: int,
  end_step: int | None,
  frequency: int,
  drop_fraction: float,
  anneal: str,
) -> UpdateSchedule:
  """The schedule of these arguments, whose names the errors use.

  Args:
    begin_step: first step at which connections may change, at least 0.
    end_step: last such step, at least `begin_step`; None for no end.
    frequency: steps from one update to the next, at least 1.
    drop_fraction: share of the active connections that is dropped at first.
    anneal: how it falls: the `drop_fraction_anneal` of `UpdateSchedule`.

  Raises:
    ValueError: if an argument is not as described.
  """
  last = checked_end_step(end_step)
  try:
    return UpdateSchedule(begin_step, last, frequency, drop_fraction, anneal)
  except ValueError as error:
    text = str(error).replace("`drop_fraction_anneal`", "`anneal`")
    raise ValueError(text) from None


def checked_end_step(end_step: int | None) -> int:
  """`end_step` as schedules have it: negative for none.

  Raises:
    ValueError: if it is neither None nor an integer of at least 0.
  """
  if end_step is None:
    return -1
  check_integer("end_step", end_step)
  if end_step < 0:
    raise ValueError(f"`end_step` must be at least 0 or None, got {end_step}.")
  return end_step
