# SPDX-License-Identifier: Apache-2.0
"""`track_exploration` of the Keras optimizers."""

import keras
import keras_models as suite
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as sparse_keras


def make(method="set", **arguments):
  model = suite.compiled(
    suite.fresh(),
    suite.sparse_optimizer(method, "sgd", track_exploration=True, **arguments),
    run_eagerly=True,
  )
  model.optimizer.build(model.trainable_variables)
  return model


def explored(model):
  return [v.numpy() for v in model.optimizer.explored.values()]


def masks(model):
  return [mask.numpy() for mask in model.optimizer.masks.values()]


@pytest.mark.parametrize("method", ["rigl", "set", "snfs", "static"])
def test_what_was_ever_active_is_explored(method):
  model = make(method, drop_fraction=0.5)
  ever = masks(model)
  for _ in range(7):
    for a, b in zip(explored(model), ever, strict=True):
      np.testing.assert_array_equal(a, b)
    model.train_on_batch(*suite.data())
    ever = [a | b for a, b in zip(ever, masks(model), strict=True)]
  optimizer = model.optimizer
  shares = [mask.mean() for mask in ever]
  assert list(optimizer.explored_shares().values()) == pytest.approx(shares)
  if method != "static":
    assert shares[0] > 1 - list(optimizer.sparsities.values())[0]
  lines = optimizer.summary().splitlines()
  assert lines[0].endswith("Explored")
  assert lines[1].endswith(f"{shares[0]:.2%}")


def test_a_graph_and_a_saved_model_keep_it(tmp_path):
  eager, graph = make(), make()
  graph.run_eagerly = False
  images, classes = suite.data()
  for model in (eager, graph):
    for _ in range(3):
      model.train_on_batch(images, classes)
  for a, b in zip(explored(graph), explored(eager), strict=True):
    np.testing.assert_array_equal(a, b)
  graph.save(tmp_path / "m.keras")
  loaded = keras.models.load_model(tmp_path / "m.keras")
  assert loaded.optimizer.get_config()["track_exploration"] is True
  for a, b in zip(explored(loaded), explored(graph), strict=True):
    np.testing.assert_array_equal(a, b)
  checkpoint = tf.train.Checkpoint(model=graph, optimizer=graph.optimizer)
  path = checkpoint.write(str(tmp_path / "c"))
  fresh = make(seed=4)
  tf.train.Checkpoint(model=fresh, optimizer=fresh.optimizer).restore(path)
  for a, b in zip(explored(fresh), explored(graph), strict=True):
    np.testing.assert_array_equal(a, b)


def test_it_is_off_by_default():
  optimizer = suite.sparse_optimizer("rigl", "sgd")
  model = suite.compiled(suite.fresh(), optimizer)
  optimizer.build(model.trainable_variables)
  assert optimizer.explored == optimizer.explored_shares() == {}
  assert "Explored" not in optimizer.summary()
  with pytest.raises(ValueError, match="`track_exploration` must be True or"):
    suite.sparse_optimizer("rigl", "sgd", track_exploration="yes")


def test_summaries_draw_what_the_optimizer_knows(tmp_path):
  model = make()
  for _ in range(4):
    model.train_on_batch(*suite.data())
  before = explored(model)
  summaries = sparse_keras.SparsitySummaries(tmp_path, "batch")
  model.fit(*suite.data(), batch_size=16, verbose=0, callbacks=[summaries])
  found = {}
  for path in tmp_path.glob("events.*"):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        found[value.tag] = float(tf.make_ndarray(value.tensor))
  now = explored(model)
  assert sum(a.sum() for a in now) >= sum(b.sum() for b in before)
  total = sum(a.sum() for a in now) / sum(a.size for a in now)
  assert found["explored/total"] == pytest.approx(total)


@pytest.mark.parametrize("in_graph", [False, True])
def test_a_layer_that_stores_its_connections_is_explored_too(in_graph):
  layers = pytest.importorskip("rigl.sparse.keras")
  optimizer = sparse_keras.SET(
    "sgd",
    0.75,
    frequency=1,
    drop_fraction=0.5,
    mask_engine="numpy",
    track_exploration=True,
  )
  model = keras.Sequential(
    [keras.Input((12,)), layers.SparseDense(8, sparsity=0.75)]
  )
  model.compile(optimizer, "mse", run_eagerly=not in_graph, jit_compile=False)
  optimizer.build(model.trainable_variables)
  ((path, explored),) = optimizer.explored.items()
  ever = np.asarray(optimizer.masks[path])
  np.testing.assert_array_equal(explored, ever)
  x = np.random.default_rng(0).normal(size=(16, 12)).astype("float32")
  for _ in range(3):
    model.train_on_batch(x, x[:, :8])
    ever = ever | np.asarray(optimizer.masks[path])
    np.testing.assert_array_equal(explored, ever)
  assert optimizer.explored_shares()[path] == pytest.approx(ever.mean())
  assert ever.mean() > 0.25
