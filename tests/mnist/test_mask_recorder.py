# SPDX-License-Identifier: Apache-2.0
"""The recorder keeps one record for each time, also after a restart."""

import numpy as np
import pytest
import tensorflow as tf

from rigl.mnist.mask_recorder import MaskRecorder
from rigl.mnist.mask_records import MaskRecords
from rigl.sparse_optimizers import SparseOptimizer


@pytest.fixture
def optimizer():
  """An optimizer whose mask has one connection."""
  made = SparseOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1))
  kernel = tf.Variable(tf.ones([2, 3]), name="layer1/weights")
  made.create_masks([kernel], {"layer1": np.eye(2, 3) * [1, 0, 0]})
  return made


def assign(optimizer, mask):
  optimizer.layers[0].mask.assign(np.array(mask, bool))


def recorded(path):
  """(iterations, masks) of a file."""
  records = MaskRecords.load(path)
  masks = records.masks("layer1").astype(int)
  return records.iterations.tolist(), masks.tolist()


FIRST, SECOND = [[1, 0, 0], [0, 0, 0]], [[0, 1, 0], [0, 0, 1]]


def test_masks_are_written_as_they_were(optimizer, tmp_path):
  recorder = MaskRecorder(optimizer, tmp_path / "records.npz", 5)
  recorder.event().action(0)
  assign(optimizer, SECOND)
  recorder.event().action(5)
  recorder.save()
  assert recorded(tmp_path / "records.npz") == ([0, 5], [FIRST, SECOND])


def test_an_event_that_is_repeated_adds_nothing(optimizer, tmp_path):
  recorder = MaskRecorder(optimizer, tmp_path / "records.npz", 5)
  recorder.record(5)
  recorder.record(5)
  recorder.save()
  assert recorded(tmp_path / "records.npz") == ([5], [FIRST])


def test_a_resumed_run_drops_later_records(optimizer, tmp_path):
  path = tmp_path / "records.npz"
  before = MaskRecorder(optimizer, path, 5)
  for iteration in (0, 5, 10):
    before.record(iteration)
  before.save()
  assign(optimizer, SECOND)
  after = MaskRecorder(optimizer, path, 5)
  after.restore(5)
  after.record(10)
  after.save()
  assert recorded(path) == ([0, 5, 10], [FIRST, FIRST, SECOND])


def test_the_first_record_is_that_of_the_initial_masks(optimizer, tmp_path):
  event = MaskRecorder(optimizer, tmp_path / "records.npz", 5).event()
  assert event.at_start and event.every == 5
  assert event.name == "mask_record_frequency"


def test_a_dense_network_has_no_file(tmp_path):
  dense = SparseOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1))
  recorder = MaskRecorder(dense, tmp_path / "records.npz", 5)
  recorder.restore(5)
  recorder.record(5)
  recorder.save()
  assert list(tmp_path.iterdir()) == []
