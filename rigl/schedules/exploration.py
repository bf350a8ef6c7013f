# SPDX-License-Identifier: Apache-2.0
"""Explored share of connections: what a schedule of mask updates will reach.

Liu et al., 2021, https://arxiv.org/abs/2102.02887 (ITOP, in-time
over-parameterization), call R_s the share of connections that were active at
any time since the start of training, and find that accuracy grows with it as
long as new connections have time to grow: rarer updates that move more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rigl.checks import check_integer, check_number
from rigl.schedules.mask_updates import UpdateSchedule

# (connections, share of them that is active) of each layer.
Layers = Sequence[tuple[int, float]]


def update_steps(schedule: UpdateSchedule, num_steps: int) -> list[int]:
  """The steps at which a training from step 0 updates its masks.

  Args:
    schedule: when masks are updated.
    num_steps: gradient steps of the training, at least 1; an update at the
      step `num_steps` itself is too late.

  Raises:
    ValueError: if `num_steps` is out of its range.
  """
  check_integer("num_steps", num_steps, 1)
  last = num_steps - 1
  if schedule.end_step >= 0:
    last = min(last, schedule.end_step)
  return list(range(schedule.begin_step, last + 1, schedule.frequency))


def expected_explored_share(
  density: float | Layers, schedule: UpdateSchedule, num_steps: int
) -> float:
  """The explored share R_s that random growth reaches, in expectation.

  An update with the drop fraction f keeps (1 - f) d of the connections of a
  layer of density d, and grows f d among the other 1 - (1 - f) d, which hold
  all that were never active. Each of these is chosen with the same
  probability, so that of the never active ones remain

      1 - f d / (1 - d + f d) = (1 - d) / (1 - d + f d),

  and after updates with the drop fractions f_1, ..., f_k

      R_s = 1 - (1 - d) * product over i of (1 - d) / (1 - d + f_i d).

  That is exact for SET, but for the rounding of the number of dropped
  connections. Growth by gradients (RigL, SNFS) chooses the same connections
  more often and explores less: take it as an upper estimate.

  >>> schedule = UpdateSchedule(0, 300, 100, 0.5)
  >>> round(expected_explored_share(0.1, schedule, 301), 3)
  0.275

  Args:
    density: share of active connections, in (0, 1], or (connections, density)
      of every layer, whose explored shares are averaged by size.
    schedule: when masks are updated, and what share is dropped.
    num_steps: gradient steps of the training, at least 1.

  Returns:
    The share of connections that were ever active, in [density, 1].

  Raises:
    ValueError: if an argument is not as described.
  """
  layers = _layers(density)
  steps = np.asarray(update_steps(schedule, num_steps), np.int64)
  fractions = np.asarray(schedule.drop_fraction_at(steps), np.float64)
  return _share(layers, fractions)


def frequency_for_exploration(
  target: float,
  density: float | Layers,
  num_steps: int,
  begin_step: int = 0,
  end_step: int = -1,
  drop_fraction: float = 0.5,
  drop_fraction_anneal: str = "constant",
) -> int:
  """The rarest mask updates that explore a share of the connections.

  New connections have the most time between two updates then.

  >>> frequency_for_exploration(0.5, 0.1, num_steps=10_000)
  999

  Args:
    target: the explored share R_s to reach, in (0, 1).
    density: as for `expected_explored_share`.
    num_steps: gradient steps of the training, at least 1.
    begin_step: first step that may update, at least 0.
    end_step: last step that may update; negative for no end.
    drop_fraction: initial share of the active connections to drop, in [0, 1].
    drop_fraction_anneal: as for `UpdateSchedule`.

  Returns:
    The greatest number of steps between two updates, at most `num_steps`, with
    which `expected_explored_share` is at least `target`.

  Raises:
    ValueError: if an argument is not as described, or even an update at every
      step explores less.
  """
  _check_target(target)
  layers = _layers(density)

  def reached(frequency: int) -> float:
    schedule = UpdateSchedule(
      begin_step, end_step, frequency, drop_fraction, drop_fraction_anneal
    )
    return expected_explored_share(layers, schedule, num_steps)

  if reached(1) < target:
    raise ValueError(
      f"`target` must be at most {reached(1):.4g}, which updates at every step "
      f"explore, got {target}."
    )
  return _greatest(lambda frequency: reached(frequency) >= target, num_steps)


def drop_fraction_for_exploration(
  target: float,
  density: float | Layers,
  num_steps: int,
  frequency: int,
  begin_step: int = 0,
  end_step: int = -1,
  drop_fraction_anneal: str = "constant",
) -> float:
  """The smallest drop fraction that explores a share of the connections.

  >>> drop_fraction_for_exploration(0.5, 0.1, 10_000, frequency=1000)
  0.545

  Args:
    target: the explored share R_s to reach, in (0, 1).
    density: as for `expected_explored_share`.
    num_steps: gradient steps of the training, at least 1.
    frequency: steps between two updates, at least 1.
    begin_step: first step that may update, at least 0.
    end_step: last step that may update; negative for no end.
    drop_fraction_anneal: as for `UpdateSchedule`.

  Returns:
    The smallest multiple of 0.001 in [0, 1] with which
    `expected_explored_share` is at least `target`.

  Raises:
    ValueError: if an argument is not as described, or even the drop fraction 1
      explores less.
  """
  _check_target(target)
  layers = _layers(density)

  def reached(thousandths: int) -> float:
    schedule = UpdateSchedule(
      begin_step,
      end_step,
      frequency,
      thousandths / 1000,
      drop_fraction_anneal,
    )
    return expected_explored_share(layers, schedule, num_steps)

  if reached(1000) < target:
    raise ValueError(
      f"`target` must be at most {reached(1000):.4g}, which a drop fraction of "
      f"1 explores with this `frequency`, got {target}."
    )
  spared = _greatest(lambda less: reached(1000 - less) >= target, 1000, 0)
  return (1000 - spared) / 1000


def _share(layers: Layers, fractions: np.ndarray) -> float:
  explored = 0.0
  for size, density in layers:
    inactive = 1.0 - density
    # Of the connections that were never active, those that stay so.
    spared = float(np.prod(inactive / (inactive + fractions * density)))
    explored += size * (1.0 - inactive * spared)
  return float(explored / sum(size for size, _ in layers))


def _greatest(fits: Callable[[int], bool], most: int, least: int = 1) -> int:
  """The greatest integer in [least, most] that fits, as all smaller ones do."""
  low, high = least, most
  while low < high:
    middle = (low + high + 1) // 2
    if fits(middle):
      low = middle
    else:
      high = middle - 1
  return low


def _layers(density: float | Layers) -> Layers:
  """Checks densities; a single one is that of one layer."""
  if isinstance(density, Sequence) and not isinstance(density, str):
    layers = list(density)
  else:
    layers = [(1, density)]
  if not layers:
    raise ValueError("`density` must hold at least one layer, got none.")
  for layer in layers:
    try:
      size, share = layer
    except (TypeError, ValueError):
      raise ValueError(
        "`density` must be a number or pairs (connections, density), got "
        f"{layer!r} as one."
      ) from None
    check_integer("density: connections", size, 1)
    check_number("density", share, 0, 1, above=True)
  return layers


def _check_target(target: float) -> None:
  check_number("target", target, 0, 1, above=True, below=True)
