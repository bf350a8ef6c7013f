# SPDX-License-Identifier: Apache-2.0
"""Products with a sparse matrix, compiled by Numba for the CPU.

Activations are stored features first, [features, batch], so that an active
connection is one pass over two contiguous rows. Several connections share a
pass, which reads and writes the row of the sum once for all of them. Inputs are
taken in groups whose rows fit into the cache of a core. Every function works on
a range of rows and releases Python's lock, so that threads can share the work.
Every row is computed by one thread in one order: the result does not depend on
the number of threads.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np

Array: TypeAlias = np.ndarray

# Sums over the batch may be reordered, which lets them use vector registers.
_compiled = numba.njit(
  nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"}
)


@_compiled
def multiply(
  first: int,
  last: int,
  starts: Array,
  columns: Array,
  places: Array,
  values: Array,
  bias: Array,
  inputs: Array,
  outputs: Array,
) -> None:
  """Sets the rows `first` to `last` of outputs = weights^T @ inputs + bias.

  Args:
    first: first output of the range.
    last: end of the range.
    starts: int64 [groups, outputs + 1]; the connections of output o in group g
      are starts[g, o] to starts[g, o + 1] in the two arrays below.
    columns: int32 [connections], the input of each connection.
    places: int32 [connections], its place in `values`.
    values: float32 [connections], by input.
    bias: float32 [outputs].
    inputs: float32 [inputs, batch].
    outputs: float32 [outputs, batch], which is overwritten.
  """
  batch = inputs.shape[1]
  for group in range(starts.shape[0]):
    for o in range(first, last):
      total = outputs[o]
      if group == 0:
        total[:] = bias[o]
      k, end = starts[group, o], starts[group, o + 1]
      while k + 8 <= end:
        v0, v1 = values[places[k]], values[places[k + 1]]
        v2, v3 = values[places[k + 2]], values[places[k + 3]]
        v4, v5 = values[places[k + 4]], values[places[k + 5]]
        v6, v7 = values[places[k + 6]], values[places[k + 7]]
        x0, x1 = inputs[columns[k]], inputs[columns[k + 1]]
        x2, x3 = inputs[columns[k + 2]], inputs[columns[k + 3]]
        x4, x5 = inputs[columns[k + 4]], inputs[columns[k + 5]]
        x6, x7 = inputs[columns[k + 6]], inputs[columns[k + 7]]
        for b in range(batch):
          first_four = (v0 * x0[b] + v1 * x1[b]) + (v2 * x2[b] + v3 * x3[b])
          last_four = (v4 * x4[b] + v5 * x5[b]) + (v6 * x6[b] + v7 * x7[b])
          total[b] += first_four + last_four
        k += 8
      if k + 4 <= end:
        v0, v1 = values[places[k]], values[places[k + 1]]
        v2, v3 = values[places[k + 2]], values[places[k + 3]]
        x0, x1 = inputs[columns[k]], inputs[columns[k + 1]]
        x2, x3 = inputs[columns[k + 2]], inputs[columns[k + 3]]
        for b in range(batch):
          total[b] += (v0 * x0[b] + v1 * x1[b]) + (v2 * x2[b] + v3 * x3[b])
        k += 4
      while k < end:
        v0, x0 = values[places[k]], inputs[columns[k]]
        for b in range(batch):
          total[b] += v0 * x0[b]
        k += 1


@_compiled
def multiply_back(
  first: int,
  last: int,
  starts: Array,
  positions: Array,
  values: Array,
  inputs: Array,
  gradients: Array,
  results: Array,
  sampled: Array,
) -> None:
  """Sets both gradients of `multiply` for the inputs `first` to `last`.

      results = weights @ gradients
      sampled = inputs @ gradients^T at the active connections

  Args:
    first: first input of the range.
    last: end of the range.
    starts: int64 [inputs + 1]; the connections of input i are starts[i] to
      starts[i + 1].
    positions: int32 [connections], input * outputs + output, ascending.
    values: float32 [connections], by input.
    inputs: float32 [inputs, batch].
    gradients: float32 [outputs, batch], of the outputs.
    results: float32 [inputs, batch], which is overwritten.
    sampled: float32 [connections], by input; that of the range is overwritten.
  """
  batch = inputs.shape[1]
  for i in range(first, last):
    total, x, row = results[i], inputs[i], i * gradients.shape[0]
    total[:] = 0
    k, end = starts[i], starts[i + 1]
    while k + 4 <= end:
      g0 = gradients[positions[k] - row]
      g1 = gradients[positions[k + 1] - row]
      g2 = gradients[positions[k + 2] - row]
      g3 = gradients[positions[k + 3] - row]
      v0, v1, v2, v3 = values[k], values[k + 1], values[k + 2], values[k + 3]
      s0 = s1 = s2 = s3 = np.float32(0)
      for b in range(batch):
        s0 += x[b] * g0[b]
        s1 += x[b] * g1[b]
        s2 += x[b] * g2[b]
        s3 += x[b] * g3[b]
        total[b] += (v0 * g0[b] + v1 * g1[b]) + (v2 * g2[b] + v3 * g3[b])
      sampled[k], sampled[k + 1], sampled[k + 2], sampled[k + 3] = (
        s0,
        s1,
        s2,
        s3,
      )
      k += 4
    while k < end:
      g0, v0, s0 = gradients[positions[k] - row], values[k], np.float32(0)
      for b in range(batch):
        s0 += x[b] * g0[b]
        total[b] += v0 * g0[b]
      sampled[k] = s0
      k += 1


@_compiled
def sample(
  first: int,
  last: int,
  starts: Array,
  positions: Array,
  inputs: Array,
  gradients: Array,
  sampled: Array,
) -> None:
  """Sets only `sampled` of `multiply_back`, whose sums it may round otherwise.

  Args:
    first: first input of the range.
    last: end of the range.
    starts: int64 [inputs + 1], as for `multiply_back`.
    positions: int32 [connections], as for `multiply_back`.
    inputs: float32 [inputs, batch].
    gradients: float32 [outputs, batch], of the outputs.
    sampled: float32 [connections]; that of the range is overwritten.
  """
  batch = inputs.shape[1]
  for i in range(first, last):
    x, row = inputs[i], i * gradients.shape[0]
    k, end = starts[i], starts[i + 1]
    while k + 4 <= end:
      g0 = gradients[positions[k] - row]
      g1 = gradients[positions[k + 1] - row]
      g2 = gradients[positions[k + 2] - row]
      g3 = gradients[positions[k + 3] - row]
      s0 = s1 = s2 = s3 = np.float32(0)
      for b in range(batch):
        s0 += x[b] * g0[b]
        s1 += x[b] * g1[b]
        s2 += x[b] * g2[b]
        s3 += x[b] * g3[b]
      sampled[k], sampled[k + 1], sampled[k + 2], sampled[k + 3] = (
        s0,
        s1,
        s2,
        s3,
      )
      k += 4
    while k < end:
      g0, s0 = gradients[positions[k] - row], np.float32(0)
      for b in range(batch):
        s0 += x[b] * g0[b]
      sampled[k] = s0
      k += 1


@_compiled
def transpose(source: Array, target: Array) -> None:
  """Sets target[j, i] = source[i, j], in blocks of 8 x 8."""
  n, m = source.shape
  whole_n, whole_m = n // 8 * 8, m // 8 * 8
  for i in range(0, whole_n, 8):
    for j in range(0, whole_m, 8):
      # The compiler unrolls ranges of a fixed length.
      for column in range(8):
        for row in range(8):
          target[j + column, i + row] = source[i + row, j + column]
    for j in range(whole_m, m):
      for row in range(8):
        target[j, i + row] = source[i + row, j]
  for i in range(whole_n, n):
    for j in range(m):
      target[j, i] = source[i, j]
