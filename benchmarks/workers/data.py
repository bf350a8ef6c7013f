# SPDX-License-Identifier: Apache-2.0
"""Random data of the step benchmark, and counts of mask changes.

It is the same for every worker, and needs NumPy alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class RandomData:
  """Images of random bytes with random labels, and random batches of them.

  Args:
    settings: `num_examples`, `num_classes`, `image_shape`; `num_steps`,
      `frequency` (which divides it) and `batch_size`; `seed`.

  Attributes:
    images: uint8 [num_examples, *image_shape].
    labels: int64 [num_examples].
  """

  def __init__(self, settings: Mapping[str, Any]) -> None:
    self._settings = settings
    self._generator = np.random.default_rng(settings["seed"])
    num_examples = settings["num_examples"]
    self.images = self._generator.integers(
      0, 256, (num_examples, *settings["image_shape"]), np.uint8
    )
    self.labels = self._generator.integers(
      0, settings["num_classes"], num_examples, np.int64
    )

  def periods(self) -> np.ndarray:
    """The examples of the next `num_steps` iterations, by update period.

    Returns:
      int64 [num_steps / frequency, frequency, batch_size].
    """
    frequency = self._settings["frequency"]
    num_periods = self._settings["num_steps"] // frequency
    shape = (num_periods, frequency, self._settings["batch_size"])
    return self._generator.integers(0, len(self.images), shape, np.int64)

  def batches(self, count: int) -> np.ndarray:
    """The examples of the next iterations, int64 [count, batch_size]."""
    shape = (count, self._settings["batch_size"])
    return self._generator.integers(0, len(self.images), shape, np.int64)


def mask_info(
  before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> dict[str, int]:
  """Counts the changes of an update, to check that contestants do equal work.

  Args:
    before: the masks before the update, bool.
    after: the same masks after it.

  Returns:
    `active`: connections after the update; `grown`: those that are new.
  """
  return {
    "active": sum(int(mask.sum()) for mask in after),
    "grown": sum(
      int((new & ~old).sum()) for old, new in zip(before, after, strict=True)
    ),
  }
