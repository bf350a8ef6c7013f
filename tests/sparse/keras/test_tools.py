# SPDX-License-Identifier: Apache-2.0
"""The tools of `rigl.keras` on sparse layers give what they give for masks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sparse_keras import FREQUENCY, IMAGES, INPUTS, LABELS, Pair

import rigl.keras
from rigl.keras import sparsity_table
from rigl.sparse.keras import SparseDense


@pytest.fixture(scope="module")
def pair():
  """Trained by RigL, with the same masks, and no step ago."""
  trained = Pair("rigl", "adamw")
  trained.train(2 * FREQUENCY + 1)
  return trained


def test_strip_gives_dense_layers_and_dense_slots(pair):
  stripped = [rigl.keras.strip(m) for m in (pair.masked, pair.sparse)]
  for one, two in zip(stripped[0].layers, stripped[1].layers, strict=True):
    assert type(two) is keras.layers.Dense
    assert one.get_config() == two.get_config()
  for layer, dense in zip(pair.sparse.layers, stripped[1].layers, strict=True):
    np.testing.assert_array_equal(layer.kernel(), dense.kernel)
  for i in range(3):  # From the same slots.
    losses = [m.train_on_batch(IMAGES[i], LABELS[i]) for m in stripped]
    np.testing.assert_allclose(*losses, rtol=1e-4)
  for one, two in zip(
    stripped[0].optimizer.variables,
    stripped[1].optimizer.variables,
    strict=True,
  ):
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)
  pair.check()  # The models themselves are as they were.


def test_stripped_files_hold_no_class_of_rigl(pair, tmp_path):
  plain = rigl.keras.strip(pair.sparse)
  plain.save(tmp_path / "plain.keras")
  assert "rigl" not in plain.to_json()
  x = IMAGES[0]
  loaded = keras.models.load_model(tmp_path / "plain.keras")
  np.testing.assert_array_equal(loaded(x), plain(x))
  np.testing.assert_allclose(loaded(x), pair.sparse(x), rtol=1e-4, atol=1e-5)


def test_strip_of_a_pruned_model_and_unshaped_slots():
  pair = Pair("pruning", "momentum")
  pair.train(2 * FREQUENCY)
  for layer, dense in zip(
    pair.sparse.layers, rigl.keras.strip(pair.sparse).layers, strict=True
  ):
    np.testing.assert_array_equal(layer.kernel(), dense.kernel)
  model = keras.Sequential([keras.Input([INPUTS]), SparseDense(12, seed=1)])
  inner = keras.optimizers.Adafactor(epsilon_1=1e-10)
  model.compile(rigl.keras.FixedMask(inner), "mse")
  model.train_on_batch(IMAGES[0], IMAGES[0])
  with pytest.warns(UserWarning, match="starts anew"):
    rigl.keras.strip(model)


@pytest.mark.skipif(
  not hasattr(keras.optimizers, "Muon"), reason="Keras has no Muon"
)
def test_strip_with_other_slots_for_a_matrix_starts_them_anew():
  model = keras.Sequential([keras.Input([INPUTS]), SparseDense(12, seed=1)])
  model.compile(rigl.keras.FixedMask(keras.optimizers.Muon(1e-3)), "mse")
  model.train_on_batch(IMAGES[0], np.zeros([len(IMAGES[0]), 12]))
  with pytest.warns(UserWarning, match="slots of the optimizer start anew"):
    plain = rigl.keras.strip(model)
  assert int(plain.optimizer.iterations) == 1
  np.testing.assert_array_equal(
    plain.layers[0].kernel, model.layers[0].kernel()
  )
  plain.train_on_batch(IMAGES[0], np.zeros([len(IMAGES[0]), 12]))


def test_strip_in_place_is_refused(pair):
  with pytest.raises(ValueError, match="`in_place` must be False.*to_dense"):
    rigl.keras.strip(pair.sparse, in_place=True)


def test_the_table_of_costs_is_the_same(pair):
  one, two = (
    rigl.keras.summarize_sparsity(m) for m in (pair.masked, pair.sparse)
  )
  assert str(one) == str(two) and two.sparse_flops < two.dense_flops
  assert rigl.keras.get_stats(pair.masked) == rigl.keras.get_stats(pair.sparse)
  # Without an optimizer, too.
  copy = keras.models.clone_model(pair.sparse)
  found = rigl.keras.summarize_sparsity(copy)
  assert [layer.active for layer in found.layers] == [
    layer.mask().sum() for layer in copy.layers
  ]


def test_kernels_that_are_too_large_are_not_formed(pair, monkeypatch):
  monkeypatch.setattr(sparsity_table, "_LARGEST_KERNEL", 50)
  table = rigl.keras.summarize_sparsity(pair.sparse)
  assert "too large" in table.reason and table.sparse_flops is None
  expected = rigl.keras.summarize_sparsity(pair.masked)
  assert (table.active, table.size) == (expected.active, expected.size)
  assert table.sparse_bytes == expected.sparse_bytes


def test_curves_are_the_same(tmp_path):
  pair = Pair("rigl")
  points = []
  for name, model in (("masked", pair.masked), ("sparse", pair.sparse)):
    summaries = rigl.keras.SparsitySummaries(tmp_path / name, update_freq=2)
    x, y = IMAGES[:10].reshape(-1, INPUTS), LABELS[:10].reshape(-1)
    model.fit(x, y, 16, shuffle=False, verbose=0, callbacks=[summaries])
    points.append(
      [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for path in sorted((tmp_path / name).iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
      ]
    )
  assert points[0] == points[1]
  changes = [v for _, tag, v in points[0] if tag == "mask_change/total"]
  assert max(changes) > 0


def test_checkpoints_of_scripts_are_refused(pair, tmp_path):
  with pytest.raises(ValueError, match="store only their active connections"):
    rigl.keras.save_checkpoint(pair.sparse, tmp_path / "run")
  path = rigl.keras.save_checkpoint(pair.masked, tmp_path / "run")
  with pytest.raises(ValueError, match="rigl.sparse.to_dense"):
    rigl.keras.load_checkpoint(pair.sparse, path)
