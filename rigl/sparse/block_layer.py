# SPDX-License-Identifier: Apache-2.0
"""What layers of blocks have in common, whatever holds their variables.

`BlockSparseDense` is a `tf.Module`; the Keras layer of that name shares this.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.checks import check_integer, check_number
from rigl.sparse import block_structure, memory_order
from rigl.sparse.block_product import multiply
from rigl.sparse.block_structure import Degrees
from rigl.sparse.dense_arrays import check_float
from rigl.sparse.sampling import random_values
from rigl.types import Tensor, Variable


def apply_blocks(
  x: Tensor,
  values: Variable,
  bias: Variable | None,
  outputs_of: Variable,
  numbers_of: Variable,
  keep: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
  """The output kernel^T x + bias of a kernel of blocks.

  Args:
    x: float [inputs, tokens].
    values: [blocks, b, b].
    bias: [outputs], or None.
    outputs_of: int32 [input blocks, blocks per input].
    numbers_of: int32 [output blocks, blocks per output].
    keep: see `block_product.multiply`.

  Returns:
    [outputs, tokens], of the dtype of x.

  Raises:
    ValueError: if the first axis has another size, or x is not float.
  """
  x = tf.convert_to_tensor(x)
  size = values.shape[1]
  num_inputs, num_outputs = outputs_of.shape[0], numbers_of.shape[0]
  if x.shape.rank != 2 or x.shape[0] != num_inputs * size:
    raise ValueError(
      f"`x` must have the shape [{num_inputs * size}, tokens], got {x.shape}."
    )
  check_float(x)
  y = multiply(
    tf.reshape(x, [num_inputs, size, tf.shape(x)[1]]),
    tf.cast(values, x.dtype),
    tf.convert_to_tensor(outputs_of),
    tf.convert_to_tensor(numbers_of),
    keep,
  )
  y = tf.reshape(y, [num_outputs * size, tf.shape(x)[1]])
  return y if bias is None else y + tf.cast(bias, x.dtype)[:, None]


def apply_to_tokens(
  function: Callable[[Tensor], Tensor], x: Tensor, shape: Sequence[int]
) -> Tensor:
  """Applies a function of [inputs, tokens] to [..., inputs].

  Args:
    function: returns [outputs, tokens].
    x: float [..., inputs].
    shape: (inputs, outputs).

  Returns:
    [..., outputs].

  Raises:
    ValueError: if the last axis has another size.
  """
  x = tf.convert_to_tensor(x)
  inputs, outputs = shape
  if x.shape.rank is None or x.shape.rank < 1 or x.shape[-1] != inputs:
    raise ValueError(f"`x` must have the shape [..., {inputs}], got {x.shape}.")
  tall = memory_order.features_first(tf.reshape(x, [-1, inputs]))
  y = memory_order.tokens_first(function(tall))
  y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [outputs]], 0))
  y.set_shape([*x.shape[:-1], outputs])
  return y


def chosen_degrees(
  inputs: int, outputs: int, sparsity: float, block: int
) -> Degrees:
  """The degrees of a layer with these arguments, which are checked.

  Raises:
    ValueError: if an argument is not as `BlockSparseDense` describes.
  """
  check_integer("inputs", inputs, 1)
  check_integer("outputs", outputs, 1)
  check_number("sparsity", sparsity, 0, 1, below=True)
  block_structure.check_block(block, inputs, outputs)
  degrees = block_structure.nearest_degrees(
    inputs // block, outputs // block, sparsity
  )
  ratio = (1 - degrees.sparsity) / (1 - sparsity)
  if not 0.5 <= ratio <= 2:
    warnings.warn(
      f"A kernel of {degrees.rows} x {degrees.columns} blocks cannot have the "
      f"sparsity {sparsity:g}, but {degrees.sparsity:g}: the numbers of blocks "
      "need a greater common divisor.",
      stacklevel=3,
    )
  return degrees


def initial_values(
  degrees: Degrees, block: int, seed: int, name: str
) -> np.ndarray:
  """Random values of all blocks, with the variance 2 / fan-in.

  Returns:
    float32 [blocks, b, b].
  """
  stddev = math.sqrt(2.0 / (degrees.per_column * block))
  flat = random_values(degrees.number * block**2, stddev, seed, name)
  return flat.reshape(degrees.number, block, block)


def grid_of_outputs(outputs_of: Variable, columns: int) -> np.ndarray:
  """Bool [input blocks, output blocks], true where a block is active.

  Args:
    outputs_of: int32 [input blocks, blocks per input].
    columns: the number of output blocks.
  """
  return mask_ops.grid_of(tf.convert_to_tensor(outputs_of), columns).numpy()


def join_blocks(
  values: np.ndarray, grid: np.ndarray, fill: float = 0.0
) -> np.ndarray:
  """The kernel of these blocks: the inverse of `split_kernel`.

  Args:
    values: [blocks, b, b], ordered by input block, each [outputs, inputs].
    grid: bool [input blocks, output blocks], true where a block is active.
    fill: what inactive blocks consist of.

  Returns:
    [inputs, outputs], of the dtype of the values.
  """
  rows, columns = grid.shape
  size = values.shape[1]
  blocks = np.full((rows, columns, size, size), fill, values.dtype)
  blocks[grid] = values
  return blocks.transpose(0, 3, 1, 2).reshape(rows * size, columns * size)


def split_kernel(kernel: np.ndarray, size: int) -> np.ndarray:
  """Splits a kernel into blocks.

  Args:
    kernel: [inputs, outputs].
    size: number of inputs, and outputs, of a block.

  Returns:
    [input blocks, output blocks, b, b], each block [outputs, inputs].
  """
  inputs, outputs = kernel.shape
  split = kernel.reshape(inputs // size, size, outputs // size, size)
  return split.transpose(0, 2, 3, 1)
