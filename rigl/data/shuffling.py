# SPDX-License-Identifier: Apache-2.0
"""Shuffled order of training examples: a function of seed and epoch.

It needs NumPy alone, because machines without TensorFlow use it too.
"""

from __future__ import annotations

import numpy as np

_STREAM = 0x0DDE


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
