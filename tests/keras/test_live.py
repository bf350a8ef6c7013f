# SPDX-License-Identifier: Apache-2.0
"""Layers and models are found among the live objects, with few looks."""

import gc

import keras
import numpy as np
import pytest

import rigl.keras
from rigl.keras import live
from rigl.sparse.keras import SparseDense


@pytest.fixture
def frozen():
  """What lives when the function is called is frozen until the test ends."""
  yield gc.freeze
  gc.unfreeze()


@pytest.fixture
def looks(monkeypatch):
  """A list with an entry for each look at all objects."""
  found, get_objects = [], gc.get_objects

  def count():
    found.append(None)
    return get_objects()

  monkeypatch.setattr(gc, "get_objects", count)
  return found


def make_model():
  image = keras.Input([8, 8, 4])
  x = keras.layers.DepthwiseConv2D(3, name="depthwise")(image)
  x = keras.layers.Conv2D(4, 3, name="conv")(x)
  return keras.Model(image, keras.layers.Dense(4, name="dense")(x))


def test_owners_are_the_layers_that_share_a_variable():
  model = make_model()
  loose = keras.Variable(np.ones([2, 2]), name="kernel")
  found = live.owners([*model.trainable_variables, loose])
  assert [[la.name for la in layers] for layers in found] == [
    *[["depthwise"]] * 2,
    *[["conv"]] * 2,
    *[["dense"]] * 2,
    [],
  ]


def test_a_build_looks_once(looks):
  model = make_model()
  for structure in (None, "2:4"):
    optimizer = rigl.keras.SET("sgd", 0.5, structure=structure)
    looks.clear()
    optimizer.build(model.trainable_variables)
    assert len(looks) == 1


def test_frozen_layers_are_found(frozen):
  model = make_model()
  sparse = keras.Sequential([keras.Input([8]), SparseDense(4, sparsity=0.5)])
  frozen()
  assert gc.get_freeze_count()
  optimizer = rigl.keras.SET("sgd", 0.5)
  optimizer.build(model.trainable_variables)
  assert list(optimizer.masks) == ["conv/kernel", "dense/kernel"]
  other = rigl.keras.RigL("sgd")
  other.build(sparse.trainable_variables)
  assert [kernel.shape for kernel in other.sparse_kernels] == [(8, 4)]
  assert gc.get_freeze_count()


@pytest.mark.parametrize("scaled", [False, True])
def test_the_model_of_an_optimizer_is_found(scaled, frozen):
  models = [make_model() for _ in range(2)]
  optimizers = [rigl.keras.SET("sgd", 0.5) for _ in range(2)]
  for model, optimizer in zip(models, optimizers, strict=True):
    outer = optimizer
    if scaled:
      outer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(outer, "mse")
  assert live.model_of(optimizers[1]) is models[1]
  frozen()
  assert live.model_of(optimizers[0]) is models[0]
  assert live.model_of(rigl.keras.SET("sgd", 0.5)) is None
