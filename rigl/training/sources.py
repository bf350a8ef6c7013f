"""Training data held in memory: shuffled orders and batches by position.

A position is the number of training iterations so far, which makes the order
of the data a function of the seed and a resumed run go on where it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any

_ORDER_STREAM = 0x0DDE


class ArraySource:
  """Examples in memory, in an order that is new every epoch.

  An epoch has `num_examples // batch_size` batches; what is left over changes
  from epoch to epoch.

  Args:
    arrays: arrays of one length by name; they are copied to the device.
    batch_size: examples a batch, from 1 to the number of examples.
    seed: decides the orders.

  Raises:
    ValueError: if the lengths differ or `batch_size` is out of range.
  """

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
    self._seed = seed
    self._arrays = {name: tf.constant(array) for name, array in arrays.items()}
    self._epoch, self._order = -1, tf.zeros([0, 0], tf.int32)

  def order(self, iteration: int) -> tuple[Tensor, int]:
    """The order of the epoch that holds an iteration.

    Args:
      iteration: number of iterations before, at least 0.

    Returns:
      int32 [batches_per_epoch, batch_size] of example numbers, and the row
      of this iteration.
    """
    epoch, row = divmod(iteration, self.batches_per_epoch)
    if epoch != self._epoch:
      key = np.random.SeedSequence([self._seed, _ORDER_STREAM, epoch])
      generator = np.random.Generator(np.random.Philox(key))
      order = generator.permutation(self.num_examples).astype(np.int32)
      used = self.batches_per_epoch * self.batch_size
      self._order = tf.constant(order[:used].reshape(-1, self.batch_size))
      self._epoch = epoch
    return self._order, row

  def steps_left(self, iteration: int) -> int:
    """Batches that are left of the epoch that holds an iteration."""
    return self.batches_per_epoch - iteration % self.batches_per_epoch

  def batch(self, numbers: Tensor) -> dict[str, Tensor]:
    """The examples with these numbers (int32 [batch]), in a graph."""
    return {
      name: tf.gather(array, numbers) for name, array in self._arrays.items()
    }
