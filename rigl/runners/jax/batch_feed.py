# SPDX-License-Identifier: Apache-2.0
"""Batch feed: puts the batches of a stream on the devices, ahead of the steps.

A thread takes batches out of the `tf.data` pipeline and starts their transfer,
while the devices compute.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rigl.data.stream_source import (
  Cursor,
  StreamSource,
  diagnosed,
  pipelines,
)
from rigl.distribution.jax_replicas import JaxReplicas, PerReplica
from rigl.types import Batch

# Batches that wait on the devices.
_AHEAD = 2
_POLL_SECONDS = 0.1
_JOIN_SECONDS = 10.0


class _Fed(NamedTuple):
  """A batch on the devices and the cursor behind it, or why there is none."""

  batch: Batch
  cursor: Cursor
  error: Exception | None = None


class BatchFeed:
  """The batches of a source, in their order, on the devices.

  Args:
    source: the source. Its cursor is behind the last batch that was taken
      after `store_cursor`.
    replicas: the devices.
  """

  def __init__(self, source: StreamSource, replicas: JaxReplicas) -> None:
    self._source, self._replicas = source, replicas
    self._queue: queue.Queue[_Fed] | None = None
    self._stop: Callable[[], None] = lambda: None
    self._cursor: Cursor | None = None

  def take(self) -> Batch:
    """Takes the next batch.

    Raises:
      DataError: if the data is damaged.
    """
    if self._queue is None:
      self._start()
    assert self._queue is not None
    fed = self._queue.get()
    if fed.error is not None:
      cursor = self._own_cursor()
      self.restart()
      with diagnosed(lambda: self._source.diagnose(cursor)):
        raise fed.error
    self._cursor = fed.cursor
    return fed.batch

  def restart(self) -> None:
    """Forgets what was read ahead: the cursor of the source has a new value."""
    self._stop()
    self._queue, self._cursor = None, None

  def store_cursor(self) -> None:
    """Moves the cursor of the source behind the last batch that was taken."""
    if self._cursor is None:
      return
    cursors = np.array(self._cursor, np.int64)
    if self._replicas.num_hosts > 1:
      cursors = self._replicas.client.all_gather(cursors)
    self._source.cursor.assign(cursors)

  def _own_cursor(self) -> Cursor:
    return self._cursor or self._source.cursors()[self._replicas.host]

  def _start(self) -> None:
    start = self._own_cursor()
    found: queue.Queue[_Fed] = queue.Queue(_AHEAD)
    done = threading.Event()
    batches = pipelines(
      self._replicas, lambda shard: self._source.make(start, shard)
    )
    thread = threading.Thread(
      target=_feed,
      args=(batches, self._source.after, self._replicas, found, done),
      daemon=True,
    )
    # TensorFlow must not be called while the process ends.
    self._stop = weakref.finalize(self, _end, thread, done)
    self._queue = found
    thread.start()


def _end(thread: threading.Thread, done: threading.Event) -> None:
  done.set()
  if thread.is_alive():
    thread.join(_JOIN_SECONDS)


def _feed(
  batches: Any,
  after: Callable[[Batch], Any],
  replicas: JaxReplicas,
  found: queue.Queue[_Fed],
  done: threading.Event,
) -> None:
  """Fills the queue until it is told to stop."""
  try:
    for batch in batches:
      last = {name: replicas.local(v)[-1] for name, v in batch.items()}
      cursor = tuple(int(number) for number in after(last).numpy())
      arrays = tf.nest.map_structure(lambda v: _put(v, replicas), batch)
      if not _offer(found, _Fed(arrays, cursor), done):
        return
    raise RuntimeError("The stream of batches has ended.")
  except Exception as error:
    _offer(found, _Fed({}, (), error), done)


def _put(value: Any, replicas: JaxReplicas) -> Any:
  if isinstance(value, PerReplica):
    return replicas.client.put_each(value.values)
  return replicas.client.put(value)


def _offer(found: queue.Queue[_Fed], fed: _Fed, done: threading.Event) -> bool:
  """Puts something into the queue; returns False if it shall stop instead."""
  while not done.is_set():
    with contextlib.suppress(queue.Full):
      found.put(fed, timeout=_POLL_SECONDS)
      return True
  return False
