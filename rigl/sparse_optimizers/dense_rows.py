# SPDX-License-Identifier: Apache-2.0
"""Numbers of every connection of a layer that stores only the active ones.

The dense gradient of such a layer is formed for a block of rows at a time, and
never as a whole. These functions run on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rigl.sparse_optimizers.sparse_layer import CompactLayer
from rigl.types import Variable

# Connections per block of rows.
BLOCK_SIZE = 2**20

# What growth scores are derived from, for the rows `first` to `last` of a
# kernel, flat; None for methods that need nothing.
RowSignal = Callable[[int, int], np.ndarray | None]


def blocks_of_rows(shape: Sequence[int]) -> list[tuple[int, int]]:
  """Ranges of rows of at most `BLOCK_SIZE` connections, or of one row.

  Args:
    shape: [inputs, outputs] of the kernel.

  Returns:
    Pairs of the first row and the end of each range; together all rows.
  """
  rows = max(1, BLOCK_SIZE // max(1, shape[1]))
  return [
    (first, min(first + rows, shape[0])) for first in range(0, shape[0], rows)
  ]


def no_signal(first: int, last: int) -> None:
  """The signal of methods whose growth scores need nothing."""
  del first, last


def dense_gradient(
  layer: CompactLayer,
  positions: np.ndarray,
  sampled: np.ndarray,
  scale: float = 1.0,
) -> RowSignal:
  """The dense gradient of a layer, whose backward passes it takes.

  Args:
    layer: the layer, which keeps its backward passes.
    positions: int32 [n], ascending: the active connections, maybe filled up
      with `NO_POSITION`.
    sampled: [n], the gradient of the loss there. It wins over what the backward
      passes give, because a loss may depend on the weights directly.
    scale: factor of what the backward passes give.

  Returns:
    A function of a range of rows: float32 [(last - first) * outputs].

  Raises:
    RuntimeError: if no backward pass went through the layer.
  """
  batches = layer.take_batches()
  if not batches:
    raise RuntimeError(
      "Connections grow by the dense gradient, but no backward pass went "
      f"through the layer {layer.name!r} since the last call of the optimizer."
    )
  outputs = int(layer.shape[1])

  def rows(first: int, last: int) -> np.ndarray:
    inputs, gradients = batches[0]
    total = inputs[first:last] @ gradients.T
    for inputs, gradients in batches[1:]:
      total += inputs[first:last] @ gradients.T
    if scale != 1.0:
      total *= np.float32(scale)
    flat = total.reshape(-1)
    start, end = np.searchsorted(positions, [first * outputs, last * outputs])
    flat[positions[start:end] - first * outputs] = sampled[start:end]
    return flat

  return rows


def update_average(average: Variable, weight: float, signal: RowSignal) -> None:
  """Moves an average towards a signal: average += weight * (signal - average).

  Args:
    average: [inputs, outputs], changed in place.
    weight: weight of the signal, in [0, 1].
    signal: a function of a range of rows.
  """
  shape = tuple(average.shape)
  for first, last in blocks_of_rows(shape):
    before = average[first:last].numpy()
    now = np.asarray(signal(first, last)).reshape(before.shape)
    change = np.asarray(weight, before.dtype) * (
      now.astype(before.dtype) - before
    )
    average[first:last].assign(before + change)


def rows_of(average: Variable) -> RowSignal:
  """The rows of an average [inputs, outputs] as a signal."""

  def rows(first: int, last: int) -> np.ndarray:
    return average[first:last].numpy().reshape(-1)

  return rows
