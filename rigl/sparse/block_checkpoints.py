# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of layers of blocks as those of masked layers, and the reverse.

Of a layer L that stores its active blocks, tensors are

    L/values            float [blocks, b, b], each block [outputs, inputs]
    L/values/SLOT       the same
    L/outputs_of        int32 [input blocks, blocks per input]
    L/numbers_of        int32 [output blocks, blocks per output]
    L/in_use            bool [blocks, b, b], true
    L/shape             int64 [2], inputs and outputs
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np

from rigl.sparse import block_structure
from rigl.sparse.block_layer import join_blocks, split_kernel

Tensors = dict[str, np.ndarray]

# What is kept of every connection in all forms of a layer: the average of SNFS,
# and which connections were ever active.
KEPT_WHOLE = ("/ExponentialMovingAverage", "/explored")
_STRUCTURE = ("outputs_of", "numbers_of", "in_use", "shape")


def block_names(tensors: Mapping[str, object]) -> list[str]:
  """The layers that store their active blocks, of tensors by name."""
  ending = "/outputs_of"
  return [n.removesuffix(ending) for n in tensors if n.endswith(ending)]


def blocks_to_masked(tensors: Mapping[str, np.ndarray], layer: str) -> Tensors:
  """Makes kernel and mask of the blocks of a layer, bit for bit.

  Args:
    tensors: a checkpoint, arrays by name.
    layer: name of the layer.

  Raises:
    ValueError: if the layer is damaged.
  """
  grid = _grid(tensors, layer)
  found = dict(tensors)
  for name in _STRUCTURE:
    found.pop(f"{layer}/{name}", None)
  kernel, shape = f"{layer}/values", tensors[f"{layer}/values"].shape
  for name in [n for n in tensors if n == kernel or n.startswith(kernel + "/")]:
    value = found.pop(name)
    if value.shape == shape:
      value = join_blocks(value, grid)
    found[f"{layer}/weights{name.removeprefix(kernel)}"] = value
  found[f"{layer}/mask"] = join_blocks(np.ones(shape, np.float32), grid)
  return found


def masked_to_blocks(
  tensors: Mapping[str, np.ndarray], layer: str, block: int
) -> Tensors:
  """Makes blocks of the kernel and mask of a layer, bit for bit.

  Args:
    tensors: a checkpoint, arrays by name.
    layer: name of the layer.
    block: number of inputs, and outputs, of a block.

  Raises:
    ValueError: if there is no kernel of two axes with a mask, or the mask does
      not consist of whole blocks, equally many in all rows and in all columns.
  """
  kernel = f"{layer}/weights"
  weights, mask = tensors.get(kernel), tensors.get(f"{layer}/mask")
  if weights is None or mask is None or weights.shape != mask.shape:
    raise ValueError(
      f"The checkpoint must hold kernel and mask of {layer!r}, of one shape."
    )
  if weights.ndim != 2:
    raise ValueError(
      f"The kernel of {layer!r} must have two axes, got {weights.shape}."
    )
  block_structure.check_block(block, *weights.shape)
  active = split_kernel(mask != 0, block)
  grid: np.ndarray = np.any(active, axis=(2, 3))
  if not np.array_equal(np.all(active, axis=(2, 3)), grid):
    raise ValueError(
      f"The mask of {layer!r} must consist of whole blocks of {block} x "
      f"{block} connections."
    )
  outputs_of, numbers_of = block_structure.index_arrays(grid)
  found = dict(tensors)
  del found[f"{layer}/mask"]
  for name in [n for n in tensors if n == kernel or n.startswith(kernel + "/")]:
    value = found.pop(name)
    if value.shape == weights.shape and not name.endswith(KEPT_WHOLE):
      value = split_kernel(value, block)[grid]
    found[f"{layer}/values{name.removeprefix(kernel)}"] = value
  return found | {
    f"{layer}/outputs_of": outputs_of,
    f"{layer}/numbers_of": numbers_of,
    f"{layer}/in_use": np.ones((int(grid.sum()), block, block), bool),
    f"{layer}/shape": np.array(weights.shape, np.int64),
  }


def _grid(tensors: Mapping[str, np.ndarray], layer: str) -> np.ndarray:
  """Bool [input blocks, output blocks], true where a block is active.

  Raises:
    ValueError: if tensors are missing or do not belong together.
  """
  values, outputs_of, numbers_of = (
    tensors.get(f"{layer}/{name}")
    for name in ("values", "outputs_of", "numbers_of")
  )
  if values is None or outputs_of is None or numbers_of is None:
    raise ValueError(
      f"The checkpoint must hold values and numbers_of of {layer!r}."
    )
  rows, columns = len(outputs_of), len(numbers_of)
  if outputs_of.dtype == np.int32 and outputs_of.ndim == numbers_of.ndim == 2:
    grid = np.zeros((rows, columns), bool)
    inside = (outputs_of >= 0) & (outputs_of < columns)
    grid[np.nonzero(inside)[0], outputs_of[inside]] = True
    if values.ndim == 3 and len(values) == outputs_of.size == grid.sum():
      with contextlib.suppress(ValueError):
        expected = block_structure.index_arrays(grid)
        if all(map(np.array_equal, expected, (outputs_of, numbers_of))):
          return grid
  raise ValueError(
    f"The blocks of {layer!r} in the checkpoint do not belong together: values "
    f"{values.shape}, outputs_of {outputs_of.shape}, numbers_of "
    f"{numbers_of.shape}."
  )
