# SPDX-License-Identifier: Apache-2.0
"""Shuffled order of training examples: a function of seed and epoch.

It needs NumPy alone, because machines without TensorFlow use it too.
"""

from __future__ import annotations

import numpy as np

_STREAM = 0x0DDE
# A window has this many batches, as many as a call of a program makes at most,
# unless it then had more examples than the second number.
_BATCHES, _EXAMPLES = 100, 2**18


def epoch_order(
  seed: int, epoch: int, num_examples: int, batch_size: int
) -> np.ndarray:
  """Returns the example numbers of an epoch's batches, in random order.

  An epoch has `num_examples // batch_size` batches; other examples are left out
  in every epoch.

  Args:
    seed: seed of the run, at least 0.
    epoch: number of epochs before.
    num_examples: how many there are.
    batch_size: examples per batch, from 1 to `num_examples`.

  Returns:
    int32 [batches, batch_size].
  """
  key = np.random.SeedSequence([seed, _STREAM, epoch])
  generator = np.random.Generator(np.random.Philox(key))
  order = generator.permutation(num_examples).astype(np.int32)
  used = num_examples // batch_size * batch_size
  return order[:used].reshape(-1, batch_size)


def window_length(num_examples: int, batch_size: int) -> int:
  """The number of batches of a window: whole epochs, as few as suffice.

  Programs get the order of a window. It is one epoch, and several of a small
  data set, so that one call can make many steps of any data.

  Args:
    num_examples: how many there are.
    batch_size: examples per batch, from 1 to `num_examples`.
  """
  per_epoch = num_examples // batch_size
  epochs = min(-(-_BATCHES // per_epoch), _EXAMPLES // num_examples)
  return per_epoch * max(epochs, 1)


def window_order(
  seed: int, window: int, num_examples: int, batch_size: int
) -> np.ndarray:
  """Returns the example numbers of the batches of a window.

  Args:
    seed: seed of the run, at least 0.
    window: number of windows before.
    num_examples: how many there are.
    batch_size: examples per batch, from 1 to `num_examples`.

  Returns:
    int32 [batches, batch_size], the orders of its epochs.
  """
  length = window_length(num_examples, batch_size)
  epochs = length // (num_examples // batch_size)
  orders = [
    epoch_order(seed, epoch, num_examples, batch_size)
    for epoch in range(window * epochs, (window + 1) * epochs)
  ]
  return np.concatenate(orders)
