# SPDX-License-Identifier: Apache-2.0
"""Compact files find the variables of a model that Keras numbers anew."""

import keras
import numpy as np
import pytest

import rigl
import rigl.keras


def stack():
  inputs = keras.Input([4])
  x = inputs
  for _ in range(3):
    x = keras.layers.Dense(4)(x)
  return keras.Model(inputs, x)


@pytest.mark.parametrize("others", [0, 1, 2, 3])
def test_variables_are_found_whatever_was_built_before(tmp_path, others):
  keras.backend.clear_session()
  model = stack()
  assert model.variables[0].path == "dense/kernel"
  rigl.export(model, tmp_path / "model.rigl", "compact")
  keras.backend.clear_session()
  for _ in range(others):
    keras.layers.Dense(4)
  again = stack()
  assert [v.path for v in again.variables[:2]] == [
    f"dense_{others}/{name}" if others else f"dense/{name}"
    for name in ("kernel", "bias")
  ]
  rigl.keras.load_compact(again, tmp_path / "model.rigl")
  for found, expected in zip(again.weights, model.weights, strict=True):
    np.testing.assert_array_equal(found, expected)


def test_other_names_of_which_some_are_the_same_are_refused(tmp_path):
  def named(*names):
    layers = [keras.layers.Dense(4, name=name) for name in names]
    return keras.Sequential([keras.Input([4]), *layers], name="stack")

  rigl.export(named("a", "b"), tmp_path / "model.rigl", "compact")
  other = named("b", "c")
  before = other.get_weights()
  with pytest.raises(ValueError, match="does not fit"):
    rigl.keras.load_compact(other, tmp_path / "model.rigl")
  for found, expected in zip(other.get_weights(), before, strict=True):
    np.testing.assert_array_equal(found, expected)
