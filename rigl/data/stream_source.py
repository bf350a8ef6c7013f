# SPDX-License-Identifier: Apache-2.0
"""Stream source: training batches from a tf.data pipeline that can resume.

The tasks decide what a pipeline reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from rigl.distribution.replicas import Replicas
from rigl.types import Batch, Tensor, Variable

# How far a pipeline has read, such as (epoch, record).
Cursor: TypeAlias = tuple[int, ...]

# The name of the cursor in checkpoints.
CURSOR = "data_position"


class InputShard(NamedTuple):
  """The part of every batch that one host reads.

  Attributes:
    num_replicas: replicas of all hosts; a batch is divided among them.
    num_hosts: hosts that have a pipeline.
    host: the number of this one, from 0.
  """

  num_replicas: int = 1
  num_hosts: int = 1
  host: int = 0


def pipelines(
  replicas: Replicas, make: Callable[[InputShard], tf.data.Dataset]
) -> Any:
  """Returns the batches of all replicas.

  TensorFlow does not tune the pipelines while they run: the thread that does so
  may sleep on when its iterator is deleted, which then takes up to a minute.

  Args:
    replicas: the replicas.
    make: makes the batches of the replicas of one host, one after the other.

  Returns:
    The batches, per replica if there are several.
  """
  options = tf.data.Options()
  options.autotune.enabled = False
  if not replicas.is_distributed:
    shard = InputShard(replicas.count, replicas.num_hosts, replicas.host)
    return replicas.batches(make(shard).with_options(options))
  return replicas.strategy.distribute_datasets_from_function(
    lambda context: make(
      InputShard(
        replicas.count,
        context.num_input_pipelines,
        context.input_pipeline_id,
      )
    ).with_options(options)
  )


class DataError(RuntimeError):
  """Examples cannot be read."""


class StreamSource:
  """Training batches without end, as a function of a cursor.

  The cursor behind the last batch that was used is a variable. With it in a
  checkpoint, a resumed run continues with the next batch.

  Attributes:
    make: the argument.
    after: the argument.
    diagnose: the argument.
    cursor: int64 [n], what `make` takes; [hosts, n] if several hosts have
      pipelines, which need not keep step.
    batches_per_epoch: batches per epoch, for reports; need not be whole.

  Args:
    make: makes the batches that follow a cursor, dicts of tensors, of the
      replicas of one host.
    after: returns the cursor behind a batch, int64 [n]; called in a graph.
    start: the cursor of the first batch.
    batches_per_epoch: the attribute.
    replicas: the devices that train.
    diagnose: names what is wrong with the data behind a cursor after
      TensorFlow raised an error; None if nothing is.
  """

  in_memory = False

  def __init__(
    self,
    make: Callable[[Cursor, InputShard], tf.data.Dataset],
    after: Callable[[Batch], Tensor],
    start: Sequence[int],
    batches_per_epoch: float,
    replicas: Replicas,
    diagnose: Callable[[Cursor], str | None] = lambda _: None,
  ) -> None:
    self.diagnose = diagnose
    self.make, self.after = make, after
    self._replicas = replicas
    self.batches_per_epoch = batches_per_epoch
    cursors = np.array(start, np.int64)
    if self._replicas.num_pipelines > 1:
      cursors = np.tile(cursors, [self._replicas.num_pipelines, 1])
    self.cursor = tf.Variable(cursors, trainable=False, name=CURSOR)
    self._iterator: Any = None
    self._iterator_at: list[Cursor] = []

  @property
  def variables(self) -> dict[str, Variable]:
    """The cursor, by its name in checkpoints."""
    return {CURSOR: self.cursor}

  def steps_left(self, iteration: int) -> int | None:
    """None: a stream gives any number of batches."""
    del iteration
    return None

  @contextlib.contextmanager
  def examples(self, iteration: int) -> Iterator[Any]:
    """Gives the iterator of the batches behind the cursor.

    Args:
      iteration: unused; iterations have to come in their order.

    Yields:
      A `tf.data` iterator, for `take`.

    Raises:
      DataError: if the data is damaged.
    """
    del iteration
    cursors = self.cursors()
    if self._iterator is None or cursors != self._iterator_at:
      self._iterator = iter(
        pipelines(
          self._replicas, lambda shard: self.make(cursors[shard.host], shard)
        )
      )
    own = self._replicas.host
    with diagnosed(lambda: self.diagnose(self.cursors()[own])):
      yield self._iterator
    self._iterator_at = self.cursors()

  def take(self, examples: Any) -> Any:
    """Takes the next batch and moves the cursor behind it, in a graph.

    Args:
      examples: the iterator.

    Returns:
      The batch of all replicas.
    """
    batch = next(examples)
    if self._replicas.num_pipelines == 1:
      last = tf.nest.map_structure(
        lambda value: self._replicas.local(value)[-1], batch
      )
      self.cursor.assign(self.after(last))
    else:
      self.cursor.assign(self._replicas.run(self._after_all, (batch,)))
    return batch

  def batch_of(self, taken: Batch, iteration: Tensor) -> Batch:
    """Returns the batch of one replica as it was taken.

    Args:
      taken: the batch.
      iteration: unused.
    """
    del iteration
    return taken

  def host_cursor(self) -> Cursor:
    """The cursor of the first host, as Python numbers."""
    return self.cursors()[0]

  def zeros(self) -> Batch:
    """A batch of zeros, shaped and typed like the batches of one device."""
    shard = InputShard(self._replicas.count, self._replicas.num_hosts)
    if self._replicas.is_distributed:
      shard = InputShard()
    return zeros_like_batch(self.make(self.host_cursor(), shard))

  def _after_all(self, batch: Batch) -> Tensor:
    """int64 [hosts, n], on every replica: behind the last of each host."""
    return self._replicas.gather_from_last_replica(self.after(batch))

  def cursors(self) -> list[Cursor]:
    """The cursor of every host."""
    rows = np.atleast_2d(self.cursor.numpy())
    return [tuple(int(number) for number in row) for row in rows]


def zeros_like_batch(batches: tf.data.Dataset) -> Batch:
  """Zeros with the shapes, which are static, and dtypes of some batches."""
  specs = batches.element_spec
  return {name: tf.zeros(s.shape, s.dtype) for name, s in specs.items()}


@contextlib.contextmanager
def diagnosed(diagnose: Callable[[], str | None]) -> Iterator[None]:
  """Turns TensorFlow's errors about damaged data into ones that name it.

  Args:
    diagnose: finds what is wrong; None if it is not the data.

  Raises:
    DataError: if it is the data.
  """
  try:
    yield
  except tf.errors.OpError as error:
    problem = diagnose()
    if problem is None:
      raise
    raise DataError(problem) from error
