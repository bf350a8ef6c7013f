# SPDX-License-Identifier: Apache-2.0
"""Array source: training examples in memory, in shuffled batches.

The batch of an iteration is a function of the seed and the number of
iterations before, so a resumed run needs no state of the data.
"""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from rigl.data.shuffling import epoch_order, window_length, window_order
from rigl.distribution import replicas
from rigl.types import Batch, Tensor, Variable


class ArraySource:
  """Examples in memory, in an order that is new every epoch.

  An epoch has `num_examples // batch_size` batches; other examples are left out
  in every epoch.

  Attributes:
    arrays: the examples on the device, or on every device, by name.
    num_examples: how many there are.
    batch_size: examples per batch.
    batches_per_epoch: batches per epoch.
    seed: decides the orders.

  Args:
    arrays: arrays of one length by name; they are copied to the device.
    batch_size: examples per batch, from 1 to the number of examples.
    seed: decides the orders.

  Raises:
    ValueError: if the lengths differ or `batch_size` is out of range.
  """

  in_memory = True

  def __init__(
    self, arrays: dict[str, np.ndarray], batch_size: int, seed: int
  ) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    self.num_examples = min(lengths.values())
    if len(set(lengths.values())) != 1:
      raise ValueError(f"`arrays` must have one length, got {lengths}.")
    if not 1 <= batch_size <= self.num_examples:
      raise ValueError(
        f"`batch_size` must be in [1, {self.num_examples}], the number of "
        f"examples, got {batch_size}."
      )
    self.batch_size = batch_size
    self.batches_per_epoch = self.num_examples // batch_size
    self.seed = seed
    self.arrays = {name: replicas.replicate(a) for name, a in arrays.items()}
    self._window_length = window_length(self.num_examples, batch_size)
    self._window, self._order = -1, tf.zeros([0, 0], tf.int32)

  @property
  def variables(self) -> dict[str, Variable]:
    """None: the iteration decides the batch."""
    return {}

  @contextlib.contextmanager
  def examples(self, iteration: int) -> Iterator[Tensor]:
    """Gives the order of the window that holds an iteration.

    Args:
      iteration: number of iterations before, at least 0.
    """
    yield self.order(iteration)

  def take(self, order: Tensor) -> Tensor:
    """Returns the order as it is; each replica reads its batch from it.

    Args:
      order: the value that `examples` yielded.
    """
    return order

  def batch_of(self, order: Tensor, iteration: Tensor) -> Batch:
    """The batch of one replica, in a graph.

    Args:
      order: the order of the window.
      iteration: int64 scalar, number of iterations before.
    """
    return self.batch(replicas.local_shard(self.numbers(order, iteration)))

  def order(self, iteration: int) -> Tensor:
    """The order of the window that holds an iteration.

    A window is one epoch, or several of a small data set.

    Args:
      iteration: number of iterations before, at least 0.

    Returns:
      int32 [batches, batch_size] of example numbers.
    """
    window = iteration // self._window_length
    if window != self._window:
      self._order = tf.constant(
        window_order(self.seed, window, self.num_examples, self.batch_size)
      )
      self._window = window
    return self._order

  def numbers(self, order: Tensor, iteration: Tensor) -> Tensor:
    """The example numbers of an iteration, in a graph.

    Args:
      order: the order of its window.
      iteration: int64 scalar, number of iterations before.

    Returns:
      int32 [batch_size].
    """
    return tf.gather(order, iteration % self._window_length)

  def steps_left(self, iteration: int) -> int:
    """Batches that are left of the window that holds an iteration.

    Args:
      iteration: number of iterations before.
    """
    return self._window_length - iteration % self._window_length

  def batch(self, numbers: Tensor) -> Batch:
    """The examples with these numbers, in a graph.

    Args:
      numbers: int32 [batch].
    """
    return {
      name: replicas.gather(array, numbers)
      for name, array in self.arrays.items()
    }

  def zeros(self) -> Batch:
    """A batch of zeros, shaped and typed like the batches of one device."""
    batch = self.batch(tf.zeros([self.batch_size], tf.int32))
    return {name: tf.zeros_like(value) for name, value in batch.items()}

  def dataset(self, iteration: int) -> tf.data.Dataset:
    """The batches that follow an iteration, without end, on the host.

    Args:
      iteration: number of iterations before.
    """
    arrays = replicas.as_numpy(self.arrays)

    def generate() -> Iterator[dict[str, np.ndarray]]:
      for epoch in itertools.count(iteration // self.batches_per_epoch):
        order = epoch_order(
          self.seed, epoch, self.num_examples, self.batch_size
        )
        begun = epoch * self.batches_per_epoch
        for numbers in order[max(iteration - begun, 0) :]:
          yield {name: array[numbers] for name, array in arrays.items()}

    return tf.data.Dataset.from_generator(
      generate, output_signature=self._signature(arrays, self.batch_size)
    )

  def whole_dataset(self, batch_size: int) -> tf.data.Dataset:
    """All examples once; padding fills the last batch.

    Args:
      batch_size: examples per batch.

    Returns:
      Dataset of the arrays and `valid`, float32 [batch], 0 for padding.
    """
    arrays = replicas.as_numpy(self.arrays)
    arrays["valid"] = np.ones(self.num_examples, np.float32)

    def generate() -> Iterator[dict[str, np.ndarray]]:
      for first in range(0, self.num_examples, batch_size):
        batch = {n: a[first : first + batch_size] for n, a in arrays.items()}
        missing = batch_size - len(batch["valid"])
        yield {
          name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
          for name, array in batch.items()
        }

    return tf.data.Dataset.from_generator(
      generate, output_signature=self._signature(arrays, batch_size)
    )

  def _signature(
    self, arrays: dict[str, np.ndarray], batch_size: int
  ) -> dict[str, tf.TensorSpec]:
    return {
      name: tf.TensorSpec([batch_size, *array.shape[1:]], array.dtype)
      for name, array in arrays.items()
    }


def fingerprint(arrays: Iterable[np.ndarray]) -> str:
  """CRC-32 of all examples, which identifies a data set."""
  total = 0
  for array in arrays:
    total = zlib.crc32(np.ascontiguousarray(array).data, total)
  return f"{total:08x}"
