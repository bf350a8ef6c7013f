# SPDX-License-Identifier: Apache-2.0
"""How many steps a call makes, by the durations of those before."""

import pytest

from rigl.runners.pace import Pace
from rigl.training.executor import MAX_STEPS


def test_first_call_changes_nothing_because_it_compiles():
  pace = Pace(10)
  assert pace.limit == 10
  pace.note(10, 1000.0)
  assert pace.limit == 10


@pytest.mark.parametrize(
  ("steps", "seconds", "limit"),
  [
    (10, 2.0, 10),
    (10, 1.0, 20),
    (10, 0.5, 40),
    (3, 2.5, 2),  # 2.4 steps.
    (3, 6.0, 1),
    (1, 3600.0, 1),
    (10, 0.01, MAX_STEPS),
    (1, 0.0, MAX_STEPS),
  ],
)
def test_next_call_takes_two_seconds(steps, seconds, limit):
  pace = Pace(10)
  for earlier in (50.0, 0.2):  # The speed may change.
    pace.note(10, earlier)
  pace.note(steps, seconds)
  assert pace.limit == limit
