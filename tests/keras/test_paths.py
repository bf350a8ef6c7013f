# SPDX-License-Identifier: Apache-2.0
"""Paths in arguments hold when Keras builds a model in another scope."""

import keras
import numpy as np
import pytest

import rigl.keras as rk
from rigl.keras.kernels import find_path

PATHS = ["kernel", "dense/kernel", "outer/dense/kernel", "dense_1/kernel"]


@pytest.mark.parametrize(
  ("key", "path"),
  [
    ("dense/kernel", "dense/kernel"),
    ("outer/dense/kernel", "outer/dense/kernel"),
    ("sequential/dense/kernel", "dense/kernel"),
    ("a/outer/dense/kernel", "outer/dense/kernel"),
    ("my_dense/kernel", "kernel"),
    ("dense", None),
    ("dense/kerne", None),
    ("^dense/kernel", "kernel"),
  ],
)
def test_the_longest_path_that_ends_a_key_is_meant(key, path):
  assert find_path(key, PATHS) == path


def sequential():
  return keras.Sequential(
    [keras.Input([8]), keras.layers.Dense(16), keras.layers.Dense(4)]
  )


def first(model):
  return model.layers[0].kernel.path


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (lambda m: {"distribution": {first(m): 0.25}}, [0.25, 0.5]),
    (lambda m: {"distribution": {"^sequential.*": 0.75}}, [0.75, 0.75]),
    (lambda m: {"filters": first(m)}, [0.5]),
    (lambda m: {"filters": [first(m)]}, [0.5]),
    (lambda m: {"filters": "^sequential"}, [0.5859375, 0.3125]),
    (lambda m: {"filters": lambda path: path == first(m)}, [0.5]),
  ],
)
def test_a_file_of_a_sequential_model_is_loaded(tmp_path, arguments, expected):
  model = sequential()
  optimizer = rk.FixedMask("sgd", 0.5, **arguments(model))
  model.compile(optimizer, "mse")
  model.fit(np.ones([8, 8]), np.ones([8, 4]), verbose=0)
  assert list(optimizer.sparsities.values()) == expected
  model.save(tmp_path / "model.keras")
  again = keras.models.load_model(tmp_path / "model.keras")
  assert list(again.optimizer.sparsities.values()) == expected
  for ours, theirs in zip(
    again.optimizer.masks.values(), optimizer.masks.values(), strict=True
  ):
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
  again.fit(np.ones([8, 8]), np.ones([8, 4]), verbose=0)
  again.save(tmp_path / "again.keras")
  keras.models.load_model(tmp_path / "again.keras")
