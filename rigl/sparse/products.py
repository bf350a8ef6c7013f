# SPDX-License-Identifier: Apache-2.0
"""The products of a sparse layer on the host, shared among threads.

Arrays in, arrays out, features first: see `kernels`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent import futures

import numpy as np

from rigl.sparse import kernels
from rigl.sparse.connections import Connections

# Less work than this, in multiplications, is not worth a second thread.
_LEAST_WORK = 2**18

# Rows that begin at a multiple of this are read faster, and TensorFlow takes
# such arrays without a copy.
_ALIGNMENT = 64


def forward(
  connections: Connections,
  values: np.ndarray,
  bias: np.ndarray,
  inputs: np.ndarray,
  threads: int,
) -> np.ndarray:
  """The output of a layer, kernel^T @ inputs + bias.

  Args:
    connections: the positions of the kernel's active connections.
    values: float32 [connections], their weights.
    bias: float32 [outputs].
    inputs: float32 [inputs, batch].
    threads: how many threads may share the work, at least 1.

  Returns:
    float32 [outputs, batch].
  """
  batch = inputs.shape[1]
  starts, columns, places = connections.by_output
  outputs = _empty((connections.shape[1], batch))
  _share(
    connections.ranges(
      connections.output_starts, _parts(connections, batch, threads)
    ),
    lambda first, last: kernels.multiply(
      first, last, starts, columns, places, values, bias, inputs, outputs
    ),
    threads,
  )
  return outputs


def backward(
  connections: Connections,
  values: np.ndarray,
  inputs: np.ndarray,
  gradients: np.ndarray,
  threads: int,
) -> tuple[np.ndarray, np.ndarray]:
  """The gradients of `forward` for its input and for the values.

  Args:
    connections: the positions of the kernel's active connections.
    values: float32 [connections], their weights.
    inputs: float32 [inputs, batch], those of `forward`.
    gradients: float32 [outputs, batch], those of its output.
    threads: how many threads may share the work, at least 1.

  Returns:
    float32 [inputs, batch], and float32 [connections].
  """
  starts = connections.input_starts
  results = _empty(inputs.shape)
  sampled = _empty((connections.number,))
  _share(
    connections.ranges(starts, _parts(connections, inputs.shape[1], threads)),
    lambda first, last: kernels.multiply_back(
      first,
      last,
      starts,
      connections.positions,
      values,
      inputs,
      gradients,
      results,
      sampled,
    ),
    threads,
  )
  return results, sampled


def backward_of_values(
  connections: Connections,
  inputs: np.ndarray,
  gradients: np.ndarray,
  threads: int,
) -> np.ndarray:
  """The gradient of `forward` for the values alone.

  Args:
    connections: the positions of the kernel's active connections.
    inputs: float32 [inputs, batch], those of `forward`.
    gradients: float32 [outputs, batch], those of its output.
    threads: how many threads may share the work, at least 1.

  Returns:
    float32 [connections]; sums may be rounded otherwise than in `backward`.
  """
  starts = connections.input_starts
  sampled = _empty((connections.number,))
  _share(
    connections.ranges(starts, _parts(connections, inputs.shape[1], threads)),
    lambda first, last: kernels.sample(
      first, last, starts, connections.positions, inputs, gradients, sampled
    ),
    threads,
  )
  return sampled


def transposed(matrix: np.ndarray) -> np.ndarray:
  """A float32 matrix with its axes swapped, contiguous."""
  result = _empty(matrix.shape[::-1])
  kernels.transpose(matrix, result)
  return result


def _empty(shape: tuple[int, ...]) -> np.ndarray:
  """A float32 array, not initialized, that begins at a multiple of 64 bytes."""
  size = 4 * math.prod(shape)
  room = np.empty(size + _ALIGNMENT, np.uint8)
  start = -room.ctypes.data % _ALIGNMENT
  return room[start : start + size].view(np.float32).reshape(shape)


def _parts(connections: Connections, batch: int, threads: int) -> int:
  work = connections.number * batch
  return max(1, min(threads, work // _LEAST_WORK))


def _share(
  ranges: list[tuple[int, int]],
  function: Callable[[int, int], None],
  threads: int,
) -> None:
  """Runs a function of ranges of rows, each range on a thread."""
  first, *others = ranges
  if not others:
    function(*first)
    return
  running = [_pool(threads).submit(function, *each) for each in others]
  function(*first)
  for each in running:
    each.result()


@functools.cache
def _pool(threads: int) -> futures.ThreadPoolExecutor:
  return futures.ThreadPoolExecutor(threads - 1, "rigl-sparse")
