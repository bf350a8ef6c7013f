# SPDX-License-Identifier: Apache-2.0
"""Explored share of connections: the formula, and what follows from it."""

import numpy as np
import pytest

from rigl.schedules import (
  UpdateSchedule,
  drop_fraction_for_exploration,
  expected_explored_share,
  frequency_for_exploration,
)


def simulated(size, density, fractions, runs, seed=0):
  """Mean explored share of random drop and grow, by doing it."""
  rng, shares = np.random.default_rng(seed), []
  ones = round(size * density)
  for _ in range(runs):
    active = set(rng.choice(size, ones, replace=False).tolist())
    explored = set(active)
    for fraction in fractions:
      dropped = int(np.float32(ones) * np.float32(fraction))
      kept = rng.permutation(sorted(active))[dropped:].tolist()
      others = sorted(set(range(size)) - set(kept))
      active = {*kept, *rng.choice(others, dropped, replace=False).tolist()}
      explored |= active
    shares.append(len(explored) / size)
  return np.mean(shares), np.std(shares) / np.sqrt(runs)


@pytest.mark.parametrize(
  ("density", "anneal", "fraction"),
  [
    (0.1, "constant", 0.5),
    (0.5, "cosine", 0.5),
    (0.2, "exponential", 1.0),
    (0.75, "constant", 0.2),
  ],
)
def test_random_growth_explores_what_is_expected(density, anneal, fraction):
  schedule = UpdateSchedule(10, 60, 10, fraction, anneal)
  size = 400
  steps = [10, 20, 30, 40, 50, 60]
  # Of whole connections, as an update counts them.
  ones = size * density
  fractions = [int(ones * schedule.drop_fraction_at(s)) / ones for s in steps]
  mean, error = simulated(size, density, fractions, runs=150)
  expected = expected_explored_share(density, schedule, 1000)
  assert mean == pytest.approx(expected, abs=5 * error + 2.0 / size)


def test_hand_worked_shares():
  every = UpdateSchedule(0, -1, 10, 0.5)
  # Density 0.2, half of it dropped: 0.8 / (0.8 + 0.1) = 8/9 stay unexplored.
  assert expected_explored_share(0.2, every, 10) == pytest.approx(
    1 - 0.8 * 8 / 9
  )
  assert expected_explored_share(0.2, every, 30) == pytest.approx(
    1 - 0.8 * (8 / 9) ** 3
  )
  # A window that ends at 20 has three updates, however long the training.
  short = UpdateSchedule(0, 20, 10, 0.5)
  assert expected_explored_share(0.2, short, 10**6) == pytest.approx(
    1 - 0.8 * (8 / 9) ** 3
  )
  layers = [(100, 1.0), (300, 0.2)]
  assert expected_explored_share(layers, every, 10) == pytest.approx(
    (100 + 300 * (1 - 0.8 * 8 / 9)) / 400
  )
  # Nothing is dropped, or nothing is left to explore, or no update comes.
  nothing = UpdateSchedule(0, -1, 10, 0.0)
  assert expected_explored_share(0.3, nothing, 100) == pytest.approx(0.3)
  assert expected_explored_share(1.0, every, 100) == 1.0
  late = UpdateSchedule(100, -1, 10, 0.5)
  assert expected_explored_share(0.3, late, 100) == pytest.approx(0.3)


@pytest.mark.parametrize("anneal", ["constant", "cosine", "exponential_2"])
@pytest.mark.parametrize("density", [0.05, [(10, 0.5), (1000, 0.02)]])
def test_proposed_frequency_is_the_rarest_that_reaches_the_target(
  anneal, density
):
  window = dict(begin_step=7, end_step=750, drop_fraction_anneal=anneal)
  target = 0.4
  found = frequency_for_exploration(target, density, 1000, **window)

  def share(frequency):
    schedule = UpdateSchedule(7, 750, frequency, 0.5, anneal)
    return expected_explored_share(density, schedule, 1000)

  assert share(found) >= target > share(found + 1)
  assert all(share(more) < target for more in range(found + 1, 1001))


@pytest.mark.parametrize("anneal", ["constant", "cosine"])
def test_proposed_drop_fraction_is_the_smallest_that_reaches_the_target(anneal):
  found = drop_fraction_for_exploration(
    0.5, 0.1, 1000, 50, end_step=750, drop_fraction_anneal=anneal
  )

  def share(fraction):
    schedule = UpdateSchedule(0, 750, 50, fraction, anneal)
    return expected_explored_share(0.1, schedule, 1000)

  assert share(found) >= 0.5 > share(found - 0.001)
  # What is explored from the start needs no drop.
  assert drop_fraction_for_exploration(0.1, 0.5, 100, 10) == 0.0
  assert frequency_for_exploration(0.1, 0.5, 100) == 100


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: frequency_for_exploration(1.0, 0.1, 100), "`target`.*got 1.0"),
    (lambda: frequency_for_exploration(0.9, 0.01, 10), "`target`.*at most"),
    (lambda: frequency_for_exploration(0.9, 0.0, 10), "`density`.*got 0.0"),
    (lambda: frequency_for_exploration(0.9, [], 10), "at least one layer"),
    (lambda: frequency_for_exploration(0.9, [0.5], 10), "pairs"),
    (lambda: frequency_for_exploration(0.9, [(0, 0.5)], 10), "connections"),
    (lambda: frequency_for_exploration(0.9, 0.5, 0), "`num_steps`.*got 0"),
    (
      lambda: drop_fraction_for_exploration(0.9, 0.01, 100, 50),
      "`target`.*at most",
    ),
    (
      lambda: drop_fraction_for_exploration(0.9, 0.1, 100, 0),
      "`frequency`.*got 0",
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
