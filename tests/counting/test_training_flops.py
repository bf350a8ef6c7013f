# SPDX-License-Identifier: Apache-2.0
"""What training costs, against the formulas of the paper worked out by hand."""

import math

import numpy as np
import pytest

from rigl.counting import training_flops
from rigl.counting.training_flops import (
  mean_over_pruning,
  pruning_phases,
  step_flops,
  training_cost,
)
from rigl.schedules import PruningSchedule
from rigl.sparse_optimizers.registry import METHODS, argument_names


def simulated_rigl(dense, sparse, period, steps=10_000):
  """Mean over many iterations, an update after every `period` steps."""
  total = iterations = 0
  while iterations < steps * (period + 1):
    total += period * 3 * sparse + (2 * sparse + dense)
    iterations += period + 1
  return total / iterations


@pytest.mark.parametrize("period", [1, 10, 100])
def test_rigl_costs_what_its_iterations_do(period):
  answer = step_flops("rigl", 1000, 150, period)
  assert answer == pytest.approx(simulated_rigl(1000, 150, period))


@pytest.mark.parametrize(
  "method, expected",
  [
    ("baseline", 3000),
    ("static", 300),
    ("scratch", 300),
    ("set", 300),
    ("snip", 300),
    ("momentum", 1200),
    ("dnw", 1200),
  ],
)
def test_steps_by_hand(method, expected):
  assert step_flops(method, dense=1000, sparse=100) == expected


def test_known_methods_have_a_cost():
  assert set(training_flops.TRAINING_METHODS) <= set(METHODS)
  for method in training_flops.TRAINING_METHODS:
    cost = step_flops(method, 1000, 100, pruning_mean=500, backward=300)
    assert 300 <= cost <= 3000


def test_dense_training_of_resnet_50_is_the_published():
  cost = training_cost("baseline", 8202340776, 8202340776)
  assert cost.total_flops == pytest.approx(3.2e18, rel=0.01)
  assert (cost.fraction, cost.inference_fraction) == (1, 1)


def test_length_steps_and_batch_multiply():
  cost = training_cost("set", 1000, 200, 10, 4, 2.5)
  assert cost.step_flops == 600
  assert cost.total_flops == 600 * 10 * 4 * 2.5
  assert cost.fraction == pytest.approx(0.2 * 2.5)
  assert cost.inference_fraction == pytest.approx(0.2)


@pytest.mark.parametrize(
  "schedule",
  [
    PruningSchedule(0, 60, 7, 0.9),
    PruningSchedule(13, 60, 7, 0.9),
    PruningSchedule(13, 60, 100, 0.5, initial_sparsity=0.2),
    PruningSchedule(90, 200, 3, 0.9),
    PruningSchedule(150, 200, 3, 0.9),
  ],
)
def test_phases_are_what_walking_over_all_steps_gives(schedule):
  last, sparsity, expected = schedule.initial_last_update_step, 0.0, []
  for step in range(100):
    if schedule.is_update_step(step, last):
      last, sparsity = step, float(schedule.sparsity_at(step))
    expected.append(sparsity)
  phases = list(pruning_phases(schedule, 100))
  assert all(length > 0 for length, _ in phases)
  walked = [s for length, s in phases for _ in range(length)]
  np.testing.assert_array_equal(walked, expected)
  mean = mean_over_pruning(lambda s: 10 - 8 * s, schedule, 100)
  assert mean == pytest.approx(10 - 8 * np.mean(expected))


def test_pruning_costs_three_times_the_mean():
  assert step_flops("prune", 1000, 100, pruning_mean=450) == 1350
  with pytest.raises(ValueError, match="`pruning_mean` must be given"):
    step_flops("prune", 1000, 100)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"method": "lottery"}, "`method` must be in .* got 'lottery'"),
    ({"dense": 0}, "`dense` must be positive"),
    ({"sparse": 1001}, r"`sparse` must be in \[0, `dense`\].* got 1001"),
    ({"sparse": -1}, "`sparse`"),
    ({"sparse": float("nan")}, "`sparse`"),
    ({"period": 0}, "`period` must be at least 1, got 0"),
    ({"steps": 0}, "`steps` must be at least 1, got 0"),
    ({"batch_size": 0}, "`batch_size`"),
    ({"multiplier": 0}, "`multiplier` must be positive"),
  ],
)
def test_wrong_arguments_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    training_cost(**{"method": "rigl", "dense": 1000, "sparse": 9, **changes})


def test_pruning_without_steps_is_refused():
  with pytest.raises(ValueError, match="`steps` must be at least 1, got 0"):
    list(pruning_phases(PruningSchedule(0, 60, 7, 0.9), 0))


@pytest.mark.parametrize("period", [1, 10])
def test_granet_is_rigl_on_a_network_that_gets_sparser(period):
  # Half of training at 500 FLOPs, half at 100: an update after every `period`
  # steps needs the dense weight gradient.
  found = step_flops("granet", 1000, 100, period, pruning_mean=300)
  parts = [simulated_rigl(1000, sparse, period) for sparse in (500, 100)]
  assert found == pytest.approx(np.mean(parts))
  with pytest.raises(ValueError, match="must be given for 'granet'"):
    step_flops("granet", 1000, 100, period)


def test_the_steps_before_the_first_update_have_the_start_sparsity():
  schedule = PruningSchedule(10, 20, 10, 0.8, 0.5)
  assert [s for _, s in pruning_phases(schedule, 30, 0.5)] == pytest.approx(
    [0.5, 0.5, 0.8]
  )
  mean = mean_over_pruning(lambda s: 100 * (1 - s), schedule, 30, 0.5)
  assert mean == pytest.approx((50 + 50 + 20) / 3)


@pytest.mark.parametrize("batches", [1, 2, 10])
def test_batches_that_choose_what_grows_cost_dense_weight_gradients(batches):
  # Of 10 steps and an update, `batches` need the gradient of all weights.
  parts = [300] * (11 - batches) + [1200] * batches
  found = step_flops("rigl", 1000, 100, 10, grow_batches=batches)
  assert found == pytest.approx(np.mean(parts))
  cost = training_cost("rigl", 1000, 100, period=10, grow_batches=batches)
  assert cost.step_flops == pytest.approx(found)


@pytest.mark.parametrize("batches", [0, 11])
def test_batches_that_do_not_fit_between_updates_are_refused(batches):
  with pytest.raises(ValueError, match="`grow_batches` must be in"):
    step_flops("rigl", 1000, 100, 10, grow_batches=batches)


@pytest.mark.parametrize("mean", [None, 250])
@pytest.mark.parametrize("method", ["set", "rigl"])
def test_updates_that_drop_by_gradients_cost_a_dense_gradient(method, mean):
  # An update takes the place of a step, after 10 that are sparse.
  sparse = mean or 100
  parts = [3 * sparse] * 10 + [2 * sparse + 1000]
  options = {"drop_gradient_weight": 0.01, "surplus_mean": mean}
  found = step_flops(method, 1000, 100, 10, **options)
  assert found == pytest.approx(np.mean(parts))
  cost = training_cost(method, 1000, 100, period=10, **options)
  assert cost.step_flops == found
  assert cost.inference_fraction == pytest.approx(0.1)
  # SET has no batches for growth, whatever is asked for.
  more = step_flops(method, 1000, 100, 10, grow_batches=2, **options)
  assert (more > found) == (method == "rigl")


def test_methods_that_drop_by_gradients_are_those_of_the_optimizers():
  taking = {
    method
    for method, optimizer in METHODS.items()
    if "drop_gradient_weight" in argument_names(optimizer)
  }
  assert set(training_flops.DROP_BY_GRADIENTS) == taking


@pytest.mark.parametrize(
  ("method", "weight", "words"),
  [
    ("granet", 0.5, "must be 0 for 'granet'.*got 0.5"),
    ("static", 0.5, "must be 0 for 'static'.*got 0.5"),
    ("set", -0.5, "must be at least 0 and finite, got -0.5"),
    ("rigl", math.inf, "must be at least 0 and finite, got inf"),
    ("set", math.nan, "must be at least 0 and finite, got nan"),
  ],
)
def test_wrong_weights_of_gradients_are_refused(method, weight, words):
  with pytest.raises(ValueError, match=f"`drop_gradient_weight` {words}"):
    step_flops(method, 1000, 100, pruning_mean=300, drop_gradient_weight=weight)


@pytest.mark.parametrize("backward", [100, 250, 1000])
def test_top_kast_has_the_weight_gradient_of_its_backward_set(backward):
  found = step_flops("top_kast", 1000, 100, backward=backward)
  assert found == 100 + 100 + backward
  cost = training_cost("top_kast", 1000, 100, 10, 4, backward=backward)
  assert cost.total_flops == found * 40
  assert cost.inference_fraction == pytest.approx(0.1)


@pytest.mark.parametrize("backward", [None, 99, 1001, float("nan")])
def test_the_backward_set_holds_what_computes(backward):
  with pytest.raises(ValueError, match=r"`backward` must be in .* 'top_kast'"):
    step_flops("top_kast", 1000, 100, backward=backward)
