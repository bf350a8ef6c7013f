"""Examples that come as a stream: a tf.data pipeline that starts anywhere.

What a pipeline reads is said by the tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any
Batch = dict[str, Tensor]
Place = tuple[int, ...]


class DataError(RuntimeError):
  """Examples cannot be read."""


class StreamSource:
  """Training batches without end, as a function of a position in the data.

  The position behind the last batch that was used is a variable. With it in a
  checkpoint, a resumed run goes on with the batch that comes next.

  Attributes:
    make: see the argument.
    after: see the argument.
    position: int64 [n], what `make` takes.
    batches_per_epoch: batches an epoch, for reports; need not be whole.

  Args:
    make: makes the batches that follow a position, dicts of tensors.
    after: the position behind a batch, int64 [n]; called in a graph.
    start: the position of the first batch.
    batches_per_epoch: see the attribute.
    explain: says what is wrong with the data behind a position after
      TensorFlow raised an error; None if nothing is.
  """

  def __init__(
    self,
    make: Callable[[Place], tf.data.Dataset],
    after: Callable[[Batch], Tensor],
    start: Sequence[int],
    batches_per_epoch: float,
    explain: Callable[[Place], str | None] = lambda _: None,
  ) -> None:
    self._explain = explain
    self.make, self.after = make, after
    self.batches_per_epoch = batches_per_epoch
    self.position = tf.Variable(
      np.array(start, np.int64), trainable=False, name="data_position"
    )
    self._iterator: Any = None
    self._place: Place = ()

  @contextlib.contextmanager
  def batches(self) -> Iterator[Any]:
    """Gives the iterator of the batches behind the position.

    Yields:
      A `tf.data` iterator. Who takes a batch assigns `position`.

    Raises:
      DataError: if the data is damaged.
    """
    place = self.place()
    if self._iterator is None or place != self._place:
      self._iterator = iter(self.make(place))
    with explained(lambda: self._explain(self.place())):
      yield self._iterator
    self._place = self.place()

  def place(self) -> Place:
    """The position, on the host."""
    return tuple(int(number) for number in self.position.numpy())


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
