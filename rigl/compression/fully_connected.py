# SPDX-License-Identifier: Apache-2.0
"""Size of a sparse fully connected network without its dead parts.

The size follows from the masks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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


class ActiveConnections(NamedTuple):
  """The active connections of a dense layer.

  Attributes:
    shape: inputs and outputs.
    inputs: int [n], the input of each connection.
    outputs: int [n], its output.
  """

  shape: tuple[int, int]
  inputs: np.ndarray
  outputs: np.ndarray


def compress_fully_connected(
  masks: Sequence[np.ndarray | ActiveConnections],
) -> CompressedNetwork:
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
    masks: of consecutive dense layers, their masks, [in, out] each, of any
      dtype, whose non-zero entries are connections; or their connections. They
      are not modified.

  Returns:
    Sizes and sparsities of the compressed network.

  Raises:
    ValueError: there is no mask, a mask is not a matrix, or the outputs of a
      layer are not as many as the inputs of the next.
  """
  layers = _validated(masks)
  alive = _find_alive(layers)
  zeros: list[int] = []
  totals: list[int] = []
  for layer, inputs, outputs in zip(layers, alive, alive[1:], strict=False):
    totals.append(_count(inputs) * _count(outputs))
    left = inputs[layer.inputs] & outputs[layer.outputs]
    zeros.append(totals[-1] - _count(left))
  return CompressedNetwork(
    sizes=[_count(units) for units in alive],
    sparsities=[_share(*counts) for counts in zip(zeros, totals, strict=True)],
    global_sparsity=_share(sum(zeros), sum(totals)),
  )


def _validated(
  masks: Sequence[np.ndarray | ActiveConnections],
) -> list[ActiveConnections]:
  """Returns the connections of the layers after checking their shapes."""
  if len(masks) == 0:
    raise ValueError("`masks` must hold at least one mask, got none.")
  layers: list[ActiveConnections] = []
  for index, mask in enumerate(masks):
    if isinstance(mask, ActiveConnections):
      layer = mask
    else:
      array = np.asarray(mask)
      if array.ndim != 2:
        raise ValueError(
          f"`masks[{index}]` must have shape [in, out], got {array.shape}."
        )
      layer = ActiveConnections(array.shape, *np.nonzero(array))
    if index and layer.shape[0] != layers[-1].shape[1]:
      raise ValueError(
        f"`masks[{index}]` must have as many inputs as the layer before it has "
        f"outputs, {layers[-1].shape[1]}, got shape {layer.shape}."
      )
    layers.append(layer)
  return layers


def _find_alive(layers: list[ActiveConnections]) -> list[np.ndarray]:
  """Returns, for the inputs and every layer's units, which of them survive.

  One sweep forward and one backward reach the fixed point: whatever survives
  both lies on a path from an input to an output, and so do all the units of
  that path.
  """
  widths = [layers[0].shape[0], *(layer.shape[1] for layer in layers)]
  alive: list[np.ndarray] = [np.ones(width, bool) for width in widths]
  for index, layer in enumerate(layers[:-1]):
    reached = layer.outputs[alive[index][layer.inputs]]
    alive[index + 1] = _units(reached, widths[index + 1])
  for index in reversed(range(len(layers))):
    layer = layers[index]
    used = layer.inputs[alive[index + 1][layer.outputs]]
    alive[index] &= _units(used, widths[index])
  return alive


def _units(numbers: np.ndarray, width: int) -> np.ndarray:
  """Bool [width], true for the units of these numbers."""
  found = np.zeros(width, bool)
  found[numbers] = True
  return found


def _count(units: np.ndarray) -> int:
  return int(np.count_nonzero(units))


def _share(part: int, total: int) -> float:
  return part / total if total else 0.0
