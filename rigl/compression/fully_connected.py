# SPDX-License-Identifier: Apache-2.0
"""Size of a sparse fully connected network without its dead parts.

The size follows from the masks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rigl.compression.graph import Liveness, Node, Product, Source


class CompressedNetwork(NamedTuple):
  """Size of a network without dead inputs and dead neurons.

  Attributes:
    sizes: remaining inputs, then remaining units of every layer: one more
      entry than there are layers.
    sparsities: for every layer the share of zeros in its compressed kernel,
      in [0, 1]; 0 for a kernel without entries.
    global_sparsity: the share of zeros in all compressed kernels together, in
      [0, 1]; 0 if no entry is left.
  """

  sizes: list[int]
  sparsities: list[float]
  global_sparsity: float


def compress_fully_connected(masks: Sequence[np.ndarray]) -> CompressedNetwork:
  """Computes the size of a multilayer perceptron without its dead parts.

  An input is dead without an outgoing connection, a hidden neuron without an
  incoming or without an outgoing one. Removing one may make others dead, which
  are then removed as well. The outputs of the last layer always stay. If no
  path leads from an input to an output, all inputs and hidden neurons go, and
  what remains are empty kernels.

  >>> compress_fully_connected([np.array([[1, 0], [0, 0]]),
  ...                           np.array([[1], [1]])])
  CompressedNetwork(sizes=[1, 1, 1], sparsities=[0.0, 0.0], global_sparsity=0.0)

  Args:
    masks: masks of consecutive dense layers, [in, out] each, of any dtype;
      non-zero entries are connections. They are not modified.

  Returns:
    Sizes and sparsities of the compressed network.

  Raises:
    ValueError: there is no mask, a mask is not a matrix, or the outputs of a
      layer are not as many as the inputs of the next.
  """
  kernels = _validated(masks)
  nodes = [Node(Source(len(kernels[0])), [])]
  for kernel in kernels:
    bias = np.zeros(kernel.shape[1])
    nodes.append(Node(Product(kernel, bias), [nodes[-1]]))
  liveness = Liveness(nodes, nodes[-1:], keeps_one=False)
  alive = [liveness.kept(node) for node in nodes]
  zeros, totals = [], []
  for kernel, inputs, outputs in zip(kernels, alive, alive[1:], strict=False):
    left = kernel[inputs][:, outputs]
    totals.append(left.size)
    zeros.append(left.size - int(np.count_nonzero(left)))
  return CompressedNetwork(
    sizes=[int(np.count_nonzero(units)) for units in alive],
    sparsities=[_share(*counts) for counts in zip(zeros, totals, strict=True)],
    global_sparsity=_share(sum(zeros), sum(totals)),
  )


def _validated(masks: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Returns the masks as new boolean arrays after checking their shapes."""
  if len(masks) == 0:
    raise ValueError("`masks` must hold at least one mask, got none.")
  kernels = [np.asarray(mask) != 0 for mask in masks]
  for index, kernel in enumerate(kernels):
    if kernel.ndim != 2:
      raise ValueError(
        f"`masks[{index}]` must have shape [in, out], got {kernel.shape}."
      )
    if index and kernel.shape[0] != kernels[index - 1].shape[1]:
      raise ValueError(
        f"`masks[{index}]` must have as many inputs as the layer before it has "
        f"outputs, {kernels[index - 1].shape[1]}, got shape {kernel.shape}."
      )
  return kernels


def _share(part: int, total: int) -> float:
  return part / total if total else 0.0
