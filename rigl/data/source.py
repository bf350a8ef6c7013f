# SPDX-License-Identifier: Apache-2.0
"""Source protocol: training examples as the executors read them."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from rigl.types import Batch, Tensor, Variable


class Source(Protocol):
  """Training batches without end, in a random order that the seed decides."""

  @property
  def in_memory(self) -> bool:
    """Whether a compiled program can hold all examples."""

  @property
  def batches_per_epoch(self) -> float:
    """Batches per epoch; need not be whole."""

  @property
  def variables(self) -> dict[str, Variable]:
    """The variables that a checkpoint has to hold, by name."""

  def steps_left(self, iteration: int) -> int | None:
    """The most batches that `examples` gives; None: any number.

    Args:
      iteration: number of iterations before.
    """

  def examples(self, iteration: int) -> contextlib.AbstractContextManager[Any]:
    """Gives the examples that `take` takes batches from.

    Args:
      iteration: number of iterations before.
    """

  def take(self, examples: Any) -> Any:
    """Takes the next batch, outside of the replicas.

    Args:
      examples: the value that `examples` yielded.
    """

  def batch_of(self, taken: Any, iteration: Tensor) -> Batch:
    """The batch of one replica.

    Args:
      taken: the result of `take`, for this replica.
      iteration: int64 scalar, number of iterations before.
    """

  def zeros(self) -> Batch:
    """A batch of zeros, shaped and typed like the batches of one device."""
