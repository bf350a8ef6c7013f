# SPDX-License-Identifier: Apache-2.0
"""What runs of the study cost, by the sparsities that they reported."""

import pathlib

import pytest
from flops_settings import make
from study_runs import SAVED, STEPS, dense_flops, make_dense, make_run

from rigl import counting
from rigl.counting import architectures
from rigl.flops.study import runs

ROOT = pathlib.Path(__file__).resolve().parents[3]


def cost(place):
  return runs.read_run(place).cost


def test_dense_training_is_what_costs_are_relative_to(tmp_path):
  found = cost(make_dense(tmp_path))
  assert found.training == pytest.approx(1)
  assert found.inference == pytest.approx(1)


@pytest.mark.parametrize("method", ["static", "scratch", "set", "snip"])
def test_costs_are_counted_with_the_sparsities_of_the_layers(tmp_path, method):
  found = cost(make_run(tmp_path, "a", training_method=method))
  expected = 1 - SAVED / dense_flops()
  assert found.inference == pytest.approx(expected, rel=1e-9)
  assert found.training == pytest.approx(expected, rel=1e-9)


def test_methods_have_their_formulas(tmp_path):
  sparse = 1 - SAVED / dense_flops()
  found = {
    "rigl_10": (3 * sparse * 10 + 2 * sparse + 1) / 11 / 3,
    "rigl_10_4": (3 * sparse * 7 + (2 * sparse + 1) * 4) / 11 / 3,
    "momentum": (2 * sparse + 1) / 3,
    "set_10": (3 * sparse * 10 + 2 * sparse + 1) / 11 / 3,
  }
  places = {
    "rigl_10": make_run(tmp_path, "a", maskupdate_frequency=10),
    "rigl_10_4": make_run(
      tmp_path, "b", maskupdate_frequency=10, grow_batches=4
    ),
    "momentum": make_run(tmp_path, "c", training_method="momentum"),
    "set_10": make_run(
      tmp_path,
      "d",
      training_method="set",
      maskupdate_frequency=10,
      drop_gradient_weight=0.01,
      grow_batches=4,  # Which SET ignores.
    ),
  }
  for name, expected in found.items():
    assert cost(places[name]).training == pytest.approx(expected, rel=1e-9)


def test_top_kast_costs_what_it_trains(tmp_path):
  settings = {
    "training_method": "top_kast",
    "end_sparsity": 0.5,
    "mask_init_method": "erdos_renyi_kernel",
  }
  saved = SAVED / dense_flops()
  # By default twice as many weights as compute are trained, here all.
  for name, changes, left in (
    ("a", {}, 0.0),
    ("b", {"backward_sparsity": 0.25}, saved / 2),
    ("c", {"backward_sparsity": 0.5}, saved),
  ):
    found = cost(make_run(tmp_path, name, **settings, **changes))
    expected = (2 * (1 - saved) + 1 - left) / 3
    assert found.training == pytest.approx(expected, rel=1e-9)
    assert found.inference == pytest.approx(1 - saved, rel=1e-9)


def test_top_kast_costs_less_after_its_last_choice_of_sets(tmp_path):
  settings = {
    "training_method": "top_kast",
    "end_sparsity": 0.5,
    "mask_init_method": "erdos_renyi_kernel",
    "max_steps": 1000,
    "shares": [(1000, 0.5, None)],
  }
  saved = SAVED / dense_flops()
  for name, changes, explored in (
    ("a", {"maskupdate_end_step": -1}, 1.0),
    ("b", {"maskupdate_end_step": 500}, 0.5),
    ("c", {"maskupdate_end_step": 599}, 0.5),
    ("d", {"maskupdate_begin_step": 50, "maskupdate_end_step": 599}, 0.55),
    ("e", {"maskupdate_end_step": 2000}, 1.0),
    (
      "f",
      {"maskupdate_end_step": 250, "training_steps_multiplier": 2.0},
      0.5,
    ),
  ):
    found = cost(make_run(tmp_path, name, **settings, **changes))
    whole = (2 * (1 - saved) + explored + (1 - explored) * (1 - saved)) / 3
    assert found.training == pytest.approx(whole * 1000 / STEPS, rel=1e-9)


def test_training_costs_are_means_over_the_steps(tmp_path):
  # Dense for a quarter of the steps, then half of a layer is zero.
  shares = [(STEPS // 4, 0, None), (STEPS, 0.5, None)]
  place = make_run(tmp_path, "a", shares=shares, training_method="prune")
  saved = SAVED / dense_flops()
  assert cost(place).training == pytest.approx(1 - 0.75 * saved, rel=1e-9)
  assert cost(place).inference == pytest.approx(1 - saved, rel=1e-9)


def test_longer_runs_and_larger_batches_cost_more(tmp_path):
  expected = 1 - SAVED / dense_flops()
  longer = make_run(
    tmp_path, "a_2x", max_steps=2 * STEPS, training_method="set"
  )
  larger = make_run(tmp_path, "b", batch_size=384, training_method="set")
  assert cost(longer).training == pytest.approx(2 * expected, rel=1e-9)
  assert cost(larger).training == pytest.approx(3 * expected, rel=1e-9)


def test_a_wide_network_is_relative_to_the_narrow_one(tmp_path):
  place = make_run(tmp_path, "a", resnet_width=4, training_method="set")
  wide = architectures.wide_resnet(22, 4)
  flops = counting.total_count([counting.count_layer(n) for n in wide]).flops
  # Its layer has four times the weights.
  assert cost(place).inference == pytest.approx(
    (flops - 4 * SAVED) / dense_flops(), rel=1e-9
  )


def test_soft_memory_counts_the_surplus_that_was_reported(tmp_path):
  # Half of the steps with half of the layer's weights, then with a quarter.
  shares = [(STEPS // 2, 0.5, None), (STEPS, 0.75, None)]
  place = make_run(
    tmp_path,
    "mest_erk_0.9",
    training_method="set",
    soft_memory=True,
    shares=shares,
  )
  share = 2 * SAVED / dense_flops()
  assert cost(place).training == pytest.approx(1 - 0.625 * share, rel=1e-9)
  assert cost(place).inference == pytest.approx(1 - 0.75 * share, rel=1e-9)


@pytest.mark.parametrize(
  "name, method",
  [
    ("rigl_erk_0.9_seed0", "rigl"),
    ("momentum_erk_0.9_seed0", "momentum"),
    ("prune_erk_0.9_seed0", "prune"),
    ("set_erk_0.9_seed0", "set"),
  ],
)
def test_real_runs_cost_what_their_schedule_says(name, method):
  answer = make(
    model="wrn_22_2",
    first_layer_sparsity=0.0,
    training_method=method,
    train_steps=STEPS,
    training_steps_multiplier=1.0,
    sparsity_begin_step=20_000,
    sparsity_end_step=75_000,
    pruning_frequency=1000,
  ).training
  found = cost(ROOT / "results" / "cifar10" / name)
  assert found.training == pytest.approx(answer.fraction, rel=2e-3)
  assert found.inference == pytest.approx(answer.inference_fraction, rel=1e-3)


@pytest.mark.parametrize(
  "reference, names",
  [
    (
      "rigl_erk_0.9",
      (
        "top_kast_small_backward_erk_0.9_0.86x",
        "top_kast_half_exploration_erk_0.9_0.86x",
        "wrn_22_3_top_kast_erk_0.966",
        "wrn_22_4_top_kast_erk_0.978",
        "wrn_22_3_rigl_erk_0.957",
      ),
    ),
    (
      "rigl_erk_0.95",
      (
        "top_kast_erk_0.95_0.76x",
        "top_kast_small_backward_erk_0.95_0.89x",
        "top_kast_half_exploration_erk_0.95_0.89x",
        "wrn_22_3_top_kast_erk_0.983",
        "wrn_22_4_top_kast_erk_0.989",
        "wrn_22_3_rigl_erk_0.979",
      ),
    ),
    ("rigl_erk_0.98", ("top_kast_erk_0.98_0.83x",)),
  ],
)
def test_configurations_cost_at_most_what_they_say(reference, names):
  place = ROOT / "results" / "cifar10_methods"
  most = cost(place / f"{reference}_seed0").training
  for name in names:
    text = (ROOT / "configs" / "cifar10" / f"{name}.gin").read_text()
    assert "at most as many training FLOPs as" in text.replace("At", "at")
    assert 0.95 * most < cost(place / f"{name}_seed0").training <= most, name
