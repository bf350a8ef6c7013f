# SPDX-License-Identifier: Apache-2.0
"""FLOPs of training with soft memory, whose networks have a surplus.

Between two updates a layer of the density d has the density min(d (1 + f), 1),
f being the drop fraction of the first of them (Yuan et al., 2021,
https://arxiv.org/abs/2110.14032). Before the first update and after the last
one there is no surplus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rigl.schedules import UpdateSchedule


def surplus_phases(
  schedule: UpdateSchedule, steps: int
) -> Iterator[tuple[int, float]]:
  """Phases of training with soft memory: number of steps and surplus of each.

  >>> schedule = UpdateSchedule(10, 30, 10, 0.5)
  >>> list(surplus_phases(schedule, 40))
  [(10, 0.0), (10, 0.5), (10, 0.5), (10, 0.0)]

  Args:
    schedule: when masks are updated, with an end.
    steps: training steps, at least 1.

  Yields:
    (number of steps, surplus as a share of the target number of connections),
    `steps` steps in all.

  Raises:
    ValueError: if `steps` is out of its range, or there is no end.
  """
  if steps < 1:
    raise ValueError(f"`steps` must be at least 1, got {steps}.")
  if schedule.end_step < 0:
    raise ValueError("`schedule` must have an end, got none.")
  first = min(schedule.begin_step, steps)
  if first:
    yield first, 0.0
  step = first
  while step < steps:
    is_last = schedule.is_last_update_step(step)
    end = steps if is_last else min(step + schedule.frequency, steps)
    yield end - step, 0.0 if is_last else float(schedule.drop_fraction_at(step))
    step = end


def with_surplus(
  sparsities: Mapping[str, float], surplus: float
) -> dict[str, float]:
  """The sparsities of layers that have more connections than their target.

  >>> with_surplus({'a': 0.75, 'b': 0.25}, 0.5)
  {'a': 0.625, 'b': 0.0}

  Args:
    sparsities: {layer name: target sparsity in [0, 1]}.
    surplus: further connections, as a share of the target number; at least 0.
  """
  return {
    name: max(sparsity - surplus * (1.0 - sparsity), 0.0)
    for name, sparsity in sparsities.items()
  }


def mean_over_surplus(
  flops_at: Callable[[float], float], schedule: UpdateSchedule, steps: int
) -> float:
  """Mean over training of the FLOPs of a network with soft memory.

  Args:
    flops_at: FLOPs of the network with a given surplus.
    schedule: when masks are updated, with an end.
    steps: training steps, at least 1.
  """
  phases = surplus_phases(schedule, steps)
  return sum(length * flops_at(share) for length, share in phases) / steps
