# SPDX-License-Identifier: Apache-2.0
"""The schedule of gradual pruning against published numbers and by hand."""

import math

import numpy as np
import pytest
from golden_files import load_json

from rigl.schedules import PruningSchedule


@pytest.fixture(scope="module")
def schedules_golden():
  return load_json("schedules_small")


def pruning_schedule(record):
  return PruningSchedule(
    record["begin"],
    record["end"],
    record["frequency"],
    record["target_sparsity"],
    record["initial_sparsity"],
    record["exponent"],
  )


def test_pruning_sparsity_is_the_published_one(schedules_golden):
  for record in schedules_golden["pruning_sparsity"]:
    schedule = pruning_schedule(record)
    steps = np.array(record["steps"])
    np.testing.assert_allclose(
      schedule.sparsity_at(steps), record["sparsity_float32"], atol=1e-6
    )
    np.testing.assert_allclose(
      schedule.sparsity_at(steps, target_sparsity=record["layer2_target"]),
      record["sparsity_layer2_float32"],
      atol=1e-6,
    )


def pruning_walks(record):
  """Published walks whose step was read before it was incremented."""
  for walk_ in record["walks"]:
    if not walk_["use_resource"]:
      (rows,) = [v for k, v in walk_.items() if k.startswith("rows_")]
      yield rows


def test_pruning_steps_are_published_when_the_last_update_is_step_zero(
  schedules_golden,
):
  n_walks = 0
  for record in schedules_golden["pruning_sparsity"]:
    schedule = pruning_schedule(record)
    for rows in pruning_walks(record):
      last, updated = 0, []
      for step in range(rows[-1][0]):
        if schedule.is_update_step(step, last):
          last = step
          updated.append(step)
      assert updated == [row[1] for row in rows]
      n_walks += 1
  assert n_walks >= 9


def test_pruning_sparsity_gives_the_published_number_of_zeros(schedules_golden):
  for record in schedules_golden["pruning_sparsity"]:
    schedule = pruning_schedule(record)
    target = record["layer2_target"]
    for rows in pruning_walks(record):
      for _, step, zeros_1, zeros_2 in rows:
        first = float(schedule.sparsity_at(step))
        second = float(schedule.sparsity_at(step, target_sparsity=target))
        # The published count is rounded in float32.
        assert 120000 * first == pytest.approx(zeros_1, abs=1)
        assert 30000 * second == pytest.approx(zeros_2, abs=1)


def test_pruning_values_by_hand():
  schedule = PruningSchedule(10, 20, 1, 0.8, 0.4)
  # (1 - p)^3 = 1/8 of the gap of 0.4 is left half way.
  for step, value in ((0, 0.4), (10, 0.4), (15, 0.75), (20, 0.8), (99, 0.8)):
    assert float(schedule.sparsity_at(step)) == pytest.approx(value)
  layer = float(schedule.sparsity_at(15, target_sparsity=0.4))
  assert layer == pytest.approx(0.375)
  linear = PruningSchedule(10, 20, 1, 0.8, exponent=1.0)
  assert float(linear.sparsity_at(15)) == pytest.approx(0.4)


def test_first_pruning_update_is_at_begin_step():
  schedule = PruningSchedule(3, 50, 10, 0.9)
  last = schedule.initial_last_update_step
  assert schedule.is_update_step(3, last)
  assert schedule.next_update_step(0, last) == 3


def test_layer_of_an_unpruned_schedule_stays_dense():
  schedule = PruningSchedule(0, 10, 1, 0.0)
  assert schedule.sparsity_at(5, target_sparsity=0.0) == 0
  with pytest.raises(ValueError, match="`target_sparsity` of a layer .* 0.5"):
    schedule.sparsity_at(5, target_sparsity=0.5)
  with pytest.raises(ValueError, match=r"`target_sparsity` .*\[0, 1\), got 1"):
    schedule.sparsity_at(5, target_sparsity=1)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"frequency": 0}, "`frequency`"),
    ({"end_step": 5}, r"`end_step` .* more than `begin_step` \(5\), got 5"),
    ({"end_step": -1}, "`end_step` .* got -1"),
    ({"target_sparsity": 1.0}, r"`target_sparsity` .* \[0, 1\), got 1.0"),
    ({"target_sparsity": math.nan}, "`target_sparsity` .* got nan"),
    ({"initial_sparsity": 0.95}, r"`initial_sparsity` .* 0.9\], got 0.95"),
    ({"exponent": 0}, "`exponent` must be > 0 and finite, got 0"),
  ],
)
def test_wrong_pruning_schedule_is_refused_with_its_argument(changes, message):
  arguments = {
    "begin_step": 5,
    "end_step": 10,
    "frequency": 1,
    "target_sparsity": 0.9,
    **changes,
  }
  with pytest.raises(ValueError, match=message):
    PruningSchedule(**arguments)
