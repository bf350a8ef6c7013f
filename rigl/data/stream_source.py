"""Examples that come as a stream: a tf.data pipeline that starts anywhere.

What a pipeline reads is said by the tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rigl.distribution.replicas import Replicas
from rigl.types import Batch, Tensor

Place = tuple[int, ...]


class Share(NamedTuple):
  """What one pipeline makes of the batches: those of the replicas of its host.

  Attributes:
    num_replicas: replicas of all hosts; each gets so small a part of a batch.
    num_hosts: hosts that have a pipeline.
    host: the number of this one, from 0.
  """

  num_replicas: int = 1
  num_hosts: int = 1
  host: int = 0


def pipelines(
  replicas: Replicas, make: Callable[[Share], tf.data.Dataset]
) -> Any:
  """The batches of all replicas.

  Args:
    replicas: the replicas.
    make: makes the batches of the replicas of one host, one after the other.

  Returns:
    A data set of batches, per replica if there is a strategy.
  """
  if not replicas.is_distributed:
    return make(Share())
  return replicas.strategy.distribute_datasets_from_function(
    lambda context: make(
      Share(
        replicas.count,
        context.num_input_pipelines,
        context.input_pipeline_id,
      )
    )
  )


class DataError(RuntimeError):
  """Examples cannot be read."""


class StreamSource:
  """Training batches without end, as a function of a position in the data.

  The position behind the last batch that was used is a variable. With it in a
  checkpoint, a resumed run goes on with the batch that comes next.

  Attributes:
    make: see the argument.
    after: see the argument.
    position: int64 [n], what `make` takes; [hosts, n] if several hosts have
      pipelines, which need not keep step.
    batches_per_epoch: batches an epoch, for reports; need not be whole.

  Args:
    make: makes the batches that follow a position, dicts of tensors, of the
      replicas of one host.
    after: the position behind a batch, int64 [n]; called in a graph.
    start: the position of the first batch.
    batches_per_epoch: see the attribute.
    explain: says what is wrong with the data behind a position after
      TensorFlow raised an error; None if nothing is.
  """

  def __init__(
    self,
    make: Callable[[Place, Share], tf.data.Dataset],
    after: Callable[[Batch], Tensor],
    start: Sequence[int],
    batches_per_epoch: float,
    explain: Callable[[Place], str | None] = lambda _: None,
  ) -> None:
    self._explain = explain
    self.make, self.after = make, after
    self._replicas = Replicas()
    self.batches_per_epoch = batches_per_epoch
    places = np.array(start, np.int64)
    if self._replicas.num_pipelines > 1:
      places = np.tile(places, [self._replicas.num_pipelines, 1])
    self.position = tf.Variable(places, trainable=False, name="data_position")
    self._iterator: Any = None
    self._place: list[Place] = []

  @contextlib.contextmanager
  def batches(self) -> Iterator[Any]:
    """Gives the iterator of the batches behind the position.

    Yields:
      A `tf.data` iterator. Who takes a batch assigns `position`.

    Raises:
      DataError: if the data is damaged.
    """
    places = self._places()
    if self._iterator is None or places != self._place:
      self._iterator = iter(
        pipelines(
          self._replicas, lambda share: self.make(places[share.host], share)
        )
      )
    own = self._replicas.host
    with explained(lambda: self._explain(self._places()[own])):
      yield self._iterator
    self._place = self._places()

  def place(self) -> Place:
    """The position, on the host, of the first host."""
    return self._places()[0]

  def zeros(self) -> Batch:
    """A batch of zeros with the shapes and dtypes of those of one device."""
    return zeros_like_batch(self.make(self.place(), Share()))

  def note(self, batch: Any) -> None:
    """Moves the position behind a batch, in a graph.

    Args:
      batch: what the iterator gave, of all replicas.
    """
    if self._replicas.num_pipelines == 1:
      last = tf.nest.map_structure(
        lambda value: self._replicas.local(value)[-1], batch
      )
      self.position.assign(self.after(last))
    else:
      self.position.assign(self._replicas.run(self._after_all, (batch,)))

  def _after_all(self, batch: Batch) -> Tensor:
    """int64 [hosts, n], on every replica: behind the last of each host."""
    return self._replicas.gather_from_last_replica(self.after(batch))

  def _places(self) -> list[Place]:
    """The position of every host."""
    rows = np.atleast_2d(self.position.numpy())
    return [tuple(int(number) for number in row) for row in rows]


def zeros_like_batch(batches: tf.data.Dataset) -> Batch:
  """Zeros with the shapes, which are static, and dtypes of some batches."""
  specs = batches.element_spec
  return {name: tf.zeros(s.shape, s.dtype) for name, s in specs.items()}


@contextlib.contextmanager
def explained(explain: Callable[[], str | None]) -> Iterator[None]:
  """Turns TensorFlow's errors of damaged data into ones that name it.

  Args:
    explain: finds what is wrong; None if it is not the data.

  Raises:
    DataError: if it is the data.
  """
  try:
    yield
  except tf.errors.OpError as error:
    found = explain()
    if found is None:
      raise
    raise DataError(found) from error
