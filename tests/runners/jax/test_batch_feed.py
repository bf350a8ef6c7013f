# SPDX-License-Identifier: Apache-2.0
"""Batches of a stream that are put on the device ahead."""

import gc
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("jax")

from rigl.data.stream_source import DataError, StreamSource  # noqa: E402
from rigl.distribution.jax_replicas import create_jax_replicas  # noqa: E402
from rigl.runners.jax.batch_feed import BatchFeed  # noqa: E402


@pytest.fixture(scope="module")
def replicas():
  return create_jax_replicas("default")


def source_of(replicas, damaged_at=10**9, made=None):
  """Batches [10 n, 10 n + 1] behind the cursor n."""

  def make(cursor, shard):
    del shard
    if made is not None:
      made.append(cursor)

    def batch(n):
      check = tf.debugging.Assert(n < damaged_at, ["damaged"])
      with tf.control_dependencies([check]):
        return {"x": 10 * n + tf.range(2, dtype=tf.int64), "n": n}

    return tf.data.Dataset.range(cursor[0], 10**6).map(batch)

  return StreamSource(
    make,
    lambda batch: tf.stack([batch["n"] + 1]),
    [0],
    10.0,
    replicas,
    lambda cursor: f"image {cursor[0]} is damaged",
  )


def first_of(batch):
  return int(np.asarray(batch["x"])[0])


def test_cursor_is_behind_what_was_taken_not_what_was_read(replicas):
  source = source_of(replicas)
  feed = BatchFeed(source, replicas)
  assert [first_of(feed.take()) for _ in range(3)] == [0, 10, 20]
  assert source.host_cursor() == (0,)
  feed.store_cursor()
  assert source.host_cursor() == (3,)
  assert first_of(feed.take()) == 30


def test_restored_cursor_counts_after_a_restart(replicas):
  made = []
  source = source_of(replicas, made=made)
  feed = BatchFeed(source, replicas)
  feed.take()
  source.cursor.assign([7])
  feed.restart()
  assert first_of(feed.take()) == 70
  feed.store_cursor()
  assert source.host_cursor() == (8,)
  assert made == [(0,), (7,)]


def test_damaged_data_is_named_after_the_good_batches(replicas):
  feed = BatchFeed(source_of(replicas, damaged_at=2), replicas)
  assert [first_of(feed.take()) for _ in range(2)] == [0, 10]
  with pytest.raises(DataError, match="image 2 is damaged"):
    feed.take()


def test_thread_ends_with_its_feed(replicas):
  before = set(threading.enumerate())
  feed = BatchFeed(source_of(replicas), replicas)
  feed.take()
  (thread,) = set(threading.enumerate()) - before
  del feed
  gc.collect()
  deadline = time.monotonic() + 60
  while thread.is_alive() and time.monotonic() < deadline:
    time.sleep(0.01)
  assert not thread.is_alive()
