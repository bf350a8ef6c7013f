# SPDX-License-Identifier: Apache-2.0
"""A checkpoint whose masks and weights disagree is reported."""

import logging

import numpy as np
import pytest
import tensorflow as tf

from rigl.sparse_optimizers import SparseSETOptimizer
from rigl.training import checkpoints, train_state, warm_start


@pytest.fixture
def state():
  kernel = tf.Variable(tf.ones([4, 3]), name="layer1/weights")
  optimizer = SparseSETOptimizer(
    tf.compat.v1.train.MomentumOptimizer(0.1, 0.9),
    begin_step=0,
    end_step=9,
    frequency=1,
    drop_fraction=0.3,
    mask_engine="numpy",
  )
  optimizer.create_masks([kernel], {"layer1": np.eye(4, 3)})
  return train_state.TrainState(
    task=None,
    variables={"layer1/weights": kernel},
    optimizer=optimizer,
    global_step=train_state.new_global_step(),
    learning_rate=None,
  )


def changed(state, directory, name, change):
  """Saves the state with one tensor changed."""
  tensors = checkpoints.load(state.save(directory, 1))
  checkpoints.save(directory, 2, tensors | {name: change(tensors[name])})


def test_a_checkpoint_that_agrees_is_not_reported(state, tmp_path, caplog):
  state.save(tmp_path, 1)
  assert state.restore(tmp_path)
  assert caplog.records == []


@pytest.mark.parametrize(
  ("change", "lost"),
  [
    (lambda w: np.ones_like(w), 9),
    (lambda w: w + np.eye(4, 3, 1, np.float32), 2),
  ],
)
def test_weights_off_the_mask_are_reported_and_cleared(
  state, tmp_path, caplog, change, lost
):
  changed(state, tmp_path, "layer1/weights", change)
  with caplog.at_level(logging.WARNING):
    state.restore(tmp_path)
  (record,) = caplog.records
  text = record.getMessage()
  assert str(tmp_path) in text and "'layer1'" in text
  assert f"{lost} weights off the mask" in text
  kernel = state.variables["layer1/weights"].numpy()
  np.testing.assert_array_equal(kernel != 0, np.eye(4, 3) != 0)


def test_a_mask_that_lost_connections_is_reported(state, tmp_path, caplog):
  changed(state, tmp_path, "layer1/mask", lambda m: m * (np.arange(3) > 0))
  state.restore(tmp_path)
  assert "1 weights off the mask" in caplog.text
  (layer,) = state.optimizer.layers
  assert (
    not state.variables["layer1/weights"].numpy()[~layer.mask.numpy()].any()
  )


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0])
def test_a_mask_of_other_values_is_refused(state, tmp_path, value):
  changed(state, tmp_path, "layer1/mask", lambda m: np.where(m == 0, value, m))
  before = state.variables["layer1/weights"].numpy()
  with pytest.raises(ValueError, match="'layer1' must hold 0 and 1 alone"):
    state.restore(tmp_path)
  np.testing.assert_array_equal(state.variables["layer1/weights"], before)


@pytest.mark.parametrize("change", [lambda w: w + 1, lambda w: w])
@pytest.mark.parametrize("is_ours", [True, False])
def test_evaluations_and_predictions_report_it_of_our_checkpoints(
  state, caplog, tmp_path, change, is_ours
):
  """In published ones, weights off the masks are as they should be."""
  tensors = checkpoints.load(state.save(tmp_path, 1))
  tensors["layer1/weights"] = change(tensors["layer1/weights"])
  if not is_ours:
    del tensors["iteration"]
  kernels = {"layer1": state.variables["layer1/weights"]}
  found = warm_start.model_weights("`x`", tensors, state.variables, kernels)
  np.testing.assert_array_equal(found["layer1/weights"] != 0, np.eye(4, 3) != 0)
  is_reported = is_ours and change(0) != 0
  assert ("9 weights off the mask" in caplog.text) == is_reported


def test_what_is_repaired_is_known(state, tmp_path):
  prefix = state.save(tmp_path, 1)
  changed(state, tmp_path, "layer1/weights", np.ones_like)
  state.load(str(tmp_path / "model.ckpt-2"))
  assert state.is_repaired
  state.load(prefix)
  assert not state.is_repaired
