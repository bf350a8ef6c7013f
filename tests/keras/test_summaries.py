# SPDX-License-Identifier: Apache-2.0
"""`SparsitySummaries` writes the curves that its documentation names."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as rk

X = np.random.default_rng(0).normal(size=[80, 6]).astype("float32")
KERNELS = ("first/kernel", "last/kernel")


def make_model(optimizer):
  inputs = keras.Input([6])
  hidden = keras.layers.Dense(20, "relu", name="first")(inputs)
  model = keras.Model(inputs, keras.layers.Dense(6, name="last")(hidden))
  model.compile(optimizer, "mse")
  return model


def make_set(**settings):
  settings = {"frequency": 3, "mask_engine": "numpy"} | settings
  return rk.SET("sgd", 0.8, **settings)


def curves(directory):
  """{tag: {step: value}} of all event files."""
  found = collections.defaultdict(dict)
  for path in directory.glob("events.*"):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        number = float(tf.make_ndarray(value.tensor))
        found[value.tag][event.step] = number
  return dict(found)


class Recorder(keras.callbacks.Callback):
  """Keeps the masks after every batch."""

  def __init__(self):
    super().__init__()
    self.steps, self.masks = [], []

  def record(self):
    optimizer = self.model.optimizer
    self.steps.append(int(optimizer.iterations))
    self.masks.append({p: m.numpy() for p, m in optimizer.masks.items()})

  def on_train_begin(self, logs=None):
    if not self.masks:
      self.record()

  def on_train_batch_end(self, batch, logs=None):
    self.record()


def test_every_curve_is_that_of_the_masks(tmp_path):
  model, recorder = make_model(make_set(end_step=12)), Recorder()
  summaries = rk.SparsitySummaries(tmp_path, "batch")
  for _ in range(2):  # A second fit goes on.
    model.fit(X, X, 10, 1, verbose=0, callbacks=[summaries, recorder])
  found = curves(tmp_path)
  assert set(found) == {
    "drop_fraction",
    *(
      f"{tag}/{path}"
      for tag in ("sparsity", "mask_change", "explored")
      for path in (*KERNELS, "total")
    ),
  }
  steps = list(range(1, 17))
  assert all(sorted(curve) == steps for curve in found.values())
  masks = recorder.masks
  sizes = {path: masks[0][path].size for path in KERNELS}
  for i, step in enumerate(steps, start=1):
    ever = {p: np.any([m[p] for m in masks[: i + 1]], axis=0) for p in KERNELS}
    changed = {p: masks[i][p] != masks[i - 1][p] for p in KERNELS}
    inactive = {p: ~masks[i][p] for p in KERNELS}
    for tag, sets in (
      ("sparsity", inactive),
      ("mask_change", changed),
      ("explored", ever),
    ):
      for path in KERNELS:
        assert found[f"{tag}/{path}"][step] == pytest.approx(sets[path].mean())
      total = sum(s.sum() for s in sets.values()) / sum(sizes.values())
      assert found[f"{tag}/total"][step] == pytest.approx(total)
    progress = min(step / 12, 1)
    fraction = 0.3 * (1 + np.cos(np.pi * progress)) / 2 if step <= 12 else 0
    assert found["drop_fraction"][step] == pytest.approx(fraction, abs=1e-6)
  assert max(found["mask_change/total"].values()) > 0
  assert found["explored/total"][16] > 0.21
  assert found["sparsity/total"][1] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
  ("update_freq", "steps"),
  [("epoch", [8, 16]), (3, [3, 6, 9, 12, 15]), (1, list(range(1, 17)))],
)
def test_points_are_as_frequent_as_asked_and_explored_counts_all(
  tmp_path, update_freq, steps
):
  model, recorder = make_model(make_set()), Recorder()
  summaries = rk.SparsitySummaries(tmp_path, update_freq)
  model.fit(X, X, 10, 2, verbose=0, callbacks=[summaries, recorder])
  found = curves(tmp_path)
  assert sorted(found["explored/total"]) == steps
  last = steps[-1]
  ever = [
    np.any([m[path] for m in recorder.masks[: last + 1]], axis=0)
    for path in KERNELS
  ]
  share = sum(e.sum() for e in ever) / sum(e.size for e in ever)
  assert found["explored/total"][last] == pytest.approx(share)


@pytest.mark.parametrize(
  ("optimizer", "explored"),
  [
    (lambda: rk.FixedMask("sgd", 0.8), 0.2),
    (lambda: rk.DNW("sgd", 0.8, mask_engine="numpy"), None),
    (
      lambda: rk.GradualPruning(
        "sgd", 0.8, end_step=6, frequency=2, mask_engine="numpy"
      ),
      1.0,
    ),
  ],
)
def test_other_methods(tmp_path, optimizer, explored):
  model = make_model(optimizer())
  summaries = rk.SparsitySummaries(tmp_path)
  model.fit(X, X, 10, 1, verbose=0, callbacks=[summaries])
  found = curves(tmp_path)
  assert "drop_fraction" not in found
  assert found["sparsity/total"][8] == pytest.approx(0.8, abs=0.01)
  if explored is not None:
    assert found["explored/total"][8] == pytest.approx(explored, abs=0.01)


def test_within_a_loss_scale_and_beside_the_callback_of_keras(tmp_path):
  scaled = keras.optimizers.LossScaleOptimizer(make_set())
  model = make_model(scaled)
  callbacks = [
    keras.callbacks.TensorBoard(tmp_path),
    rk.SparsitySummaries(tmp_path),
  ]
  model.fit(X, X, 10, 1, verbose=0, callbacks=callbacks)
  assert sorted(curves(tmp_path)["sparsity/total"]) == [8]


def test_under_a_strategy(tmp_path):
  with tf.distribute.MirroredStrategy(["cpu:0"]).scope():
    model = make_model(make_set())
  summaries = rk.SparsitySummaries(tmp_path, np.int64(4))
  model.fit(X, X, 10, 1, verbose=0, callbacks=[summaries])
  assert sorted(curves(tmp_path)["sparsity/total"]) == [4, 8]


@pytest.mark.parametrize("update_freq", ["step", 0, -1, 1.5, True, None])
def test_a_wrong_frequency_is_refused(update_freq):
  with pytest.raises(ValueError, match="`update_freq` must be 'epoch'"):
    rk.SparsitySummaries("logs", update_freq)


@pytest.mark.parametrize("log_dir", [None, 3, b"logs"])
def test_a_wrong_directory_is_refused(log_dir):
  with pytest.raises(ValueError, match="`log_dir` must be a path, got"):
    rk.SparsitySummaries(log_dir)


def test_a_dense_model_is_refused_when_training_starts(tmp_path):
  model = make_model("sgd")
  before = model.get_weights()
  with pytest.raises(ValueError, match="got one with the optimizer SGD"):
    model.fit(X, X, verbose=0, callbacks=[rk.SparsitySummaries(tmp_path)])
  np.testing.assert_array_equal(before[0], model.get_weights()[0])
