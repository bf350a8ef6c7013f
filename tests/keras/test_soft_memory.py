# SPDX-License-Identifier: Apache-2.0
"""Soft memory, and drop and grow over all variables, for Keras."""

import keras
import keras_models as suite
import numpy as np
import pytest

import rigl.keras as rk

SIZES = (576, 24)  # Of `mlp`; at the sparsity 0.6 they have 231 and 10.
GIVEN = (231, 10)


def trained(method, steps=12, **arguments):
  arguments = {
    "begin_step": 0,
    "frequency": 2,
    "end_step": 5,
    "drop_fraction": 0.5,
    "anneal": "constant",
    "distribution": "uniform",
  } | arguments
  optimizer = suite.sparse_optimizer(method, "sgd", **arguments)
  model = suite.compiled(suite.fresh(), optimizer, run_eagerly=True)
  optimizer.build(model.trainable_variables)
  counts = [tuple(suite.counts(model))]
  for _ in range(steps):
    model.train_on_batch(*suite.data())
    suite.check_promises(model)
    counts.append(tuple(suite.counts(model)))
  return model, counts


def test_numbers_are_exact_after_every_call():
  _, counts = trained("mest")
  soft = tuple(n + n // 2 for n in GIVEN)
  # Updates are the calls at the steps 0, 2 and 4, of which the last only drops.
  assert counts == [GIVEN, *[soft] * 6, *[GIVEN] * 6]


def test_set_without_the_gradient_updates_after_a_step():
  _, counts = trained("mest", 6, drop_gradient_weight=0.0)
  soft = tuple(n + n // 2 for n in GIVEN)
  # After the steps 1, 3 and 5.
  assert counts == [GIVEN, *[soft] * 4, GIVEN, GIVEN]


def test_numbers_over_all_variables_are_exact():
  _, counts = trained("chase")
  n = sum(GIVEN)
  totals = [sum(each) for each in counts]
  assert totals == [n, *[n + n // 2] * 6, *[n] * 6]
  _, counts = trained("rigl_across")
  assert {sum(each) for each in counts} == {n}
  assert len(set(counts)) > 1


@pytest.mark.parametrize("method", ["mest", "rigl_across", "chase"])
def test_a_saved_run_goes_on(tmp_path, method):
  whole, _ = trained(method, 10, noise_std=0.0)
  half, _ = trained(method, 4, noise_std=0.0)
  half.save(tmp_path / "m.keras")
  again = keras.models.load_model(tmp_path / "m.keras")
  given = [int(v) for v in again.optimizer.target_connections.values()]
  assert given == list(GIVEN)
  options = suite.OPTIONS[method][1] | {"end_step": 5, "frequency": 2}
  config = again.optimizer.get_config()
  assert {name: config[name] for name in options} == options
  again.run_eagerly = True
  for _ in range(6):
    again.train_on_batch(*suite.data())
  for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"soft_memory": True}, "`end_step` must be at least.*got no end"),
    ({"soft_memory": True, "end_step": 50}, "`end_step` must be.*= 100.*50"),
    ({"soft_memory": 1, "end_step": 500}, "`soft_memory` must be True or"),
    ({"across_layers": "yes"}, "`across_layers` must be True or False"),
    ({"layer_floor": 1.5}, "`layer_floor` must be"),
    ({"drop_gradient_weight": -0.5}, "`drop_gradient_weight` must be"),
    ({"across_layers": True, "structure": "2:4"}, "`structure` must be None"),
  ],
)
@pytest.mark.parametrize("make", [rk.RigL, rk.SET])
def test_bad_arguments_are_named(make, arguments, message):
  with pytest.raises(ValueError, match=message):
    make("sgd", **arguments)


@pytest.mark.parametrize(
  "options",
  [
    {"soft_memory": True},
    {"across_layers": True},
    {"layer_floor": 0.2},
    {"drop_gradient_weight": 0.5},
  ],
  ids=str,
)
@pytest.mark.parametrize("make", [rk.GraNet, rk.SNFS, rk.Static])
def test_other_methods_refuse_the_options(make, options):
  (name,) = options
  optimizer = make("sgd", 0.5, end_step=500)
  assert name not in optimizer.get_config()
  with pytest.raises(ValueError, match=f"`{name}` must be .* RigL and SET"):
    make("sgd", 0.5, end_step=500, **options)


@pytest.mark.parametrize(
  ("option", "value"),
  [
    ("soft_memory", True),
    ("across_layers", True),
    ("drop_gradient_weight", 0.5),
  ],
)
def test_sparse_layers_are_refused(option, value):
  pytest.importorskip("rigl.sparse")
  import rigl.sparse

  model = keras.Sequential([keras.Input([8]), keras.layers.Dense(16)])
  model.compile(rk.RigL("sgd", 0.5))
  model.optimizer.build(model.trainable_variables)
  sparse = rigl.sparse.convert(model)
  optimizer = rk.RigL("sgd", 0.5, end_step=500, **{option: value})
  with pytest.raises(ValueError, match=f"`{option}` must be .* active conn"):
    optimizer.build(sparse.trainable_variables)
