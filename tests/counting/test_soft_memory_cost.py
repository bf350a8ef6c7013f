# SPDX-License-Identifier: Apache-2.0
"""Cost of training with soft memory: the mean over a run, step by step."""

import doctest

import flops_settings
import pytest

from rigl.counting import soft_memory, training_flops
from rigl.schedules import UpdateSchedule


def walked(schedule, steps):
  """The surplus in each step, by the rule of the optimizers."""
  surplus, last, found = 0.0, schedule.initial_last_update_step, []
  for step in range(steps):
    if schedule.is_update_step(step, last):
      last = step
      ends = step + schedule.frequency > schedule.end_step
      surplus = 0.0 if ends else float(schedule.drop_fraction_at(step))
    found.append(surplus)
  return found


@pytest.mark.parametrize(
  "schedule",
  [
    UpdateSchedule(0, 75, 10, 0.5, "cosine"),
    UpdateSchedule(13, 60, 7, 1.0, "exponential_3"),
    UpdateSchedule(0, 100, 3, 0.3),
    UpdateSchedule(0, 400, 30, 0.3),
    UpdateSchedule(150, 400, 30, 0.3),
    UpdateSchedule(5, 15, 10, 0.3),
  ],
)
def test_phases_are_what_walking_over_all_steps_gives(schedule):
  phases = list(soft_memory.surplus_phases(schedule, 100))
  by_step = [share for length, share in phases for _ in range(length)]
  assert by_step == walked(schedule, 100)
  mean = soft_memory.mean_over_surplus(lambda a: 10 + a, schedule, 100)
  assert mean == pytest.approx(10 + sum(by_step) / 100)


def test_steps_by_hand():
  step = training_flops.step_flops
  assert step("set", 1000, 100, surplus_mean=120) == 360
  # 9 steps of 3 * 120, and a batch of 2 * 120 + 1000.
  assert step("rigl", 1000, 100, 9, surplus_mean=120) == pytest.approx(
    (9 * 360 + 1240) / 10
  )


@pytest.mark.parametrize(
  ("method", "mean", "message"),
  [
    ("static", 120, "`surplus_mean` must be None for 'static'"),
    ("granet", 120, "`surplus_mean` must be None for 'granet'"),
    ("set", 90, r"`surplus_mean` must be in \[`sparse`, `dense`\].*got 90"),
    ("rigl", 1001, "`surplus_mean` must be in .*got 1001"),
    ("rigl", float("nan"), "`surplus_mean` must be in .*got nan"),
  ],
)
def test_wrong_means_are_refused(method, mean, message):
  with pytest.raises(ValueError, match=message):
    training_flops.step_flops(
      method, 1000, 100, pruning_mean=100, surplus_mean=mean
    )


@pytest.mark.parametrize(
  ("schedule", "steps"),
  [(UpdateSchedule(0, -1, 10), 10), (UpdateSchedule(0, 10, 5), 0)],
)
def test_runs_without_an_end_or_steps_are_refused(schedule, steps):
  with pytest.raises(ValueError, match="`s(chedule|teps)` must"):
    list(soft_memory.surplus_phases(schedule, steps))


def test_a_surplus_is_at_most_the_layer():
  found = soft_memory.with_surplus({"a": 0.75, "b": 0.25, "c": 0.0}, 1.0)
  assert found == {"a": 0.5, "b": 0.0, "c": 0.0}


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_the_command_counts_the_surplus(method):
  """mnist_fc with one sparsity: FLOPs are affine in the density."""
  options = dict(training_method=method, method="random", sparsity=0.8)
  plain = flops_settings.make(**options).training
  soft = flops_settings.make(
    **options,
    soft_memory=True,
    drop_fraction=0.5,
    maskupdate_end_step=750,
  ).training
  # 700 of 1000 steps, from the update at 0 to that at 700 (of frequency 100,
  # the last one up to 750).
  by_density = {
    s: flops_settings.make(**options | {"sparsity": s}).training for s in (0.7,)
  }[0.7]
  assert soft.step_flops == pytest.approx(
    0.3 * plain.step_flops + 0.7 * by_density.step_flops, rel=1e-3
  )
  assert soft.inference_fraction == plain.inference_fraction


def test_the_command_needs_an_end():
  with pytest.raises(
    ValueError, match="`maskupdate_end_step` must be at least"
  ):
    flops_settings.make(soft_memory=True, maskupdate_end_step=-1)


def test_the_command_refuses_what_has_no_soft_memory():
  with pytest.raises(ValueError, match="`training_method` .*'prune'"):
    flops_settings.make(training_method="prune", soft_memory=True)


def test_examples():
  assert not doctest.testmod(soft_memory).failed
