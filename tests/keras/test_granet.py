# SPDX-License-Identifier: Apache-2.0
"""GraNet for Keras: the rule is that of `rigl.sparse_optimizers`."""

import keras
import keras_models as suite
import numpy as np
import pytest

import rigl.keras as rk


def trained(steps=8, **arguments):
  arguments = {"end_step": 4, "frequency": 2, "noise_std": 0.0} | arguments
  optimizer = rk.GraNet("sgd", 0.6, mask_engine="numpy", **arguments)
  model = suite.compiled(suite.fresh(), optimizer, run_eagerly=True)
  optimizer.build(model.trainable_variables)
  counts = [sum(suite.counts(model))]
  for _ in range(steps):
    model.train_on_batch(*suite.data())
    suite.check_promises(model)
    counts.append(sum(suite.counts(model)))
  return model, counts


@pytest.mark.parametrize("initial", [0.0, 0.3])
def test_counts_follow_the_cubic_schedule(initial):
  model, counts = trained(initial_sparsity=initial, distribution="uniform")
  total = sum(v.numpy().size for v in model.optimizer.masks.values())
  sizes = [v.numpy().size for v in model.optimizer.masks.values()]
  start = total - sum(int(np.floor(initial * size)) for size in sizes)
  # Updates are the iterations at the steps 0, 2 and 4.
  shares = [0.6 + (initial - 0.6) * (1 - p) ** 3 for p in (0.0, 0.5, 1.0)]
  at = [round(total * (1 - share)) for share in shares]
  at[0] = min(at[0], start)
  assert counts == [
    start,
    at[0],
    at[0],
    at[0],
    at[1],
    at[1],
    at[1],
    at[2],
    at[2],
  ]


def test_the_pruning_is_global_and_targets_of_zero_stay_dense():
  model, _ = trained(distribution="uniform")
  first, second = model.optimizer.sparsities.values()
  assert first != pytest.approx(second, abs=1e-3)
  model = suite.fresh()
  paths = [v.path for v in model.trainable_variables if "kernel" in v.path]
  optimizer = rk.GraNet(
    "sgd", 0.6, end_step=4, frequency=2, distribution={paths[1]: 0.0}
  )
  suite.compiled(model, optimizer, run_eagerly=True)
  for _ in range(8):
    model.train_on_batch(*suite.data())
  assert optimizer.sparsities[paths[1]] == 0.0
  assert optimizer.sparsities[paths[0]] == pytest.approx(0.6, abs=0.01)


def test_a_saved_run_goes_on(tmp_path):
  whole, _ = trained(8, initial_sparsity=0.2)
  half, _ = trained(4, initial_sparsity=0.2)
  half.save(tmp_path / "m.keras")
  again = keras.models.load_model(tmp_path / "m.keras")
  assert again.optimizer.get_config()["initial_sparsity"] == 0.2
  again.run_eagerly = True
  for _ in range(4):
    again.train_on_batch(*suite.data())
  for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"end_step": None}, "`end_step` must be at least"),
    ({"end_step": 1}, "`end_step` must be at least.*= 2"),
    ({"initial_sparsity": 0.7}, r"in \[0, `sparsity`\].*got 0.7"),
    ({"structure": "2:4", "initial_sparsity": 0.1}, "must be 0 with a"),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    sparsity = 0.5 if "structure" in arguments else 0.6
    rk.GraNet("sgd", sparsity, **{"end_step": 4, "frequency": 2} | arguments)


def test_the_configuration_holds_when_pruning_ends():
  optimizer = rk.GraNet(
    "sgd", 0.9, end_step=300, frequency=100, pruning_end_step=250
  )
  again = rk.GraNet.from_config(optimizer.get_config())
  for each in (optimizer, again):
    assert each.pruning_schedule.end_step == 200
  with pytest.raises(ValueError, match="`pruning_end_step` must be in"):
    rk.GraNet("sgd", 0.9, end_step=300, pruning_end_step=301)
