# SPDX-License-Identifier: Apache-2.0
"""A dense layer that stores and computes only its active blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rigl.checks import check_integer
from rigl.sparse import block_structure
from rigl.sparse.block_layer import (
  apply_blocks,
  apply_to_tokens,
  chosen_degrees,
  grid_of_outputs,
  initial_values,
  join_blocks,
  split_kernel,
)
from rigl.sparse.block_product import Batches, KeptBatches
from rigl.sparse.block_structure import Degrees
from rigl.sparse.dense_arrays import check_dtype, checked_arrays
from rigl.types import Tensor, Variable

_DTYPES = ("float32", "bfloat16", "float16")


class BlockSparseDense(tf.Module):
  """A layer y = activation(x @ kernel + bias) without its inactive blocks.

  The kernel consists of b x b blocks. Every block of outputs reads the same
  number of input blocks, and every input block is read by the same number of
  output blocks. So all shapes are static, and the layer is made of batched
  matrix products and gathers, which TensorFlow and XLA have for every device.

  A sparse optimizer, such as `SparseRigLOptimizer`, takes the layer in place of
  a kernel, and moves whole blocks.

  Args:
    inputs: number of inputs, at least 1.
    outputs: number of outputs, at least 1.
    sparsity: wanted share of inactive blocks, in [0, 1). The nearest possible
      one is taken, see `block_structure.nearest_degrees`, and is the property
      `sparsity`. A warning tells if it leaves more than twice, or less than
      half of the wanted blocks.
    block: number b of inputs, and outputs, of a block; it must divide both
      sizes. 128 is best on GPUs.
    activation: function of the output. None: the identity.
    use_bias: whether there is a bias.
    seed: non-negative seed of the blocks and initial values.
    name: name of the layer, from which the seed is derived, too.
    dtype: dtype in which values are stored, float32, bfloat16 or float16.
      Products are computed in the dtype of the input.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> layer = BlockSparseDense(512, 1024, sparsity=0.75, block=128)
    >>> layer(tf.zeros([2, 512])).shape.as_list(), layer.values.shape.as_list()
    ([2, 1024], [8, 128, 128])
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    sparsity: float = 0.9,
    *,
    block: int = 128,
    activation: Callable[[Tensor], Tensor] | None = None,
    use_bias: bool = True,
    seed: int = 0,
    name: str = "block_sparse_dense",
    dtype: str | tf.DType = tf.float32,
  ) -> None:
    degrees = chosen_degrees(inputs, outputs, sparsity, block)
    check_integer("seed", seed, 0)
    self._build(
      block_structure.random_grid(degrees, seed, name),
      initial_values(degrees, block, seed, name),
      np.zeros(outputs, np.float32) if use_bias else None,
      activation,
      name,
      dtype,
    )

  @classmethod
  def from_kernel(
    cls,
    kernel: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    block: int = 128,
    activation: Callable[[Tensor], Tensor] | None = None,
    name: str = "block_sparse_dense",
    dtype: str | tf.DType = tf.float32,
  ) -> BlockSparseDense:
    """Makes a layer of a dense kernel and its mask.

    Args:
      kernel: float [inputs, outputs].
      mask: the same shape, nonzero where a connection is active; a block is
        active if one of its connections is. None: where the kernel is not zero.
      bias: float [outputs]. None: no bias.
      block: number of inputs, and outputs, of a block.
      activation: function of the output. None: the identity.
      name: name of the layer.
      dtype: dtype in which values are stored, float32, bfloat16 or float16.

    Raises:
      ValueError: if shapes do not match, an argument is not as described, or
        the numbers of active blocks differ between rows, or between columns.
    """
    array, active, offset = checked_arrays(kernel, mask, bias)
    block_structure.check_block(block, *array.shape)
    grid: np.ndarray = np.any(split_kernel(active, block), axis=(2, 3))
    block_structure.degrees_of(grid)
    layer = cls.__new__(cls)
    values = split_kernel(np.where(active, array, 0), block)[grid]
    layer._build(grid, values, offset, activation, name, dtype)
    return layer

  def _build(
    self,
    grid: np.ndarray,
    values: np.ndarray,
    bias: np.ndarray | None,
    activation: Callable[[Tensor], Tensor] | None,
    name: str,
    dtype: str | tf.DType,
  ) -> None:
    check_dtype(dtype, _DTYPES)
    super().__init__(name)
    self._activation = activation
    self._kept = KeptBatches()
    outputs_of, numbers_of = block_structure.index_arrays(grid)
    with self.name_scope:
      self.values: Variable = _variable(tf.cast(values, dtype), "values")
      self.outputs_of: Variable = _variable(outputs_of, "outputs_of", False)
      self.numbers_of: Variable = _variable(numbers_of, "numbers_of", False)
      self.bias: Variable | None = (
        None if bias is None else _variable(bias, "bias")
      )

  @property
  def block(self) -> int:
    """The number of inputs, and of outputs, of a block."""
    return int(self.values.shape[1])

  @property
  def degrees(self) -> Degrees:
    """Active blocks per block of inputs (rows), and of outputs (columns)."""
    return Degrees.of_shapes(self.outputs_of.shape, self.numbers_of.shape)

  @property
  def sparsity(self) -> float:
    """The share of inactive blocks, the nearest possible to the wanted one."""
    return self.degrees.sparsity

  @property
  def shape(self) -> tf.TensorShape:
    """[inputs, outputs], that of the kernel."""
    rows, columns, *_ = self.degrees
    return tf.TensorShape([rows * self.block, columns * self.block])

  def __call__(self, x: Tensor) -> Tensor:
    """The output of the layer.

    Args:
      x: float [..., inputs].

    Returns:
      [..., outputs], of the dtype of x.

    Raises:
      ValueError: if the last axis has another size, or x is not float.
    """
    return apply_to_tokens(self.features_first, x, self.shape)

  def features_first(self, x: Tensor) -> Tensor:
    """The output of the layer, of inputs that are stored feature by feature.

    The layer computes so. Between two layers of blocks it saves two transposes.

    Args:
      x: float [inputs, tokens].

    Returns:
      [outputs, tokens], of the dtype of x.

    Raises:
      ValueError: if the first axis has another size, or x is not float.
    """
    y = apply_blocks(
      x,
      self.values,
      self.bias,
      self.outputs_of,
      self.numbers_of,
      self._kept.keep if self._kept.is_wanted else None,
    )
    return y if self._activation is None else self._activation(y)

  def mask(self) -> np.ndarray:
    """Bool [inputs, outputs], true where a block is active."""
    grid = self.grid()
    return np.repeat(np.repeat(grid, self.block, 0), self.block, 1)

  def grid(self) -> np.ndarray:
    """Bool [input blocks, output blocks], true where a block is active."""
    return grid_of_outputs(self.outputs_of, self.degrees.columns)

  def kernel(self) -> np.ndarray:
    """float32 [inputs, outputs], the values and zeros elsewhere."""
    values = tf.cast(tf.convert_to_tensor(self.values), tf.float32)
    return join_blocks(values.numpy(), self.grid())

  def keep_batches(self, wanted: bool = True) -> None:
    """Keeps backward passes for `take_batches`, which must be called then.

    Args:
      wanted: False ends what another call has begun; when all have ended, none
        are kept.
    """
    self._kept.want(wanted)

  def take_batches(self) -> Batches:
    """Returns and forgets the backward passes of this function or branch.

    Returns:
      Pairs of inputs [input blocks, b, tokens] and gradients of the outputs
      [output blocks, b, tokens].
    """
    return self._kept.take()


def _variable(value: Tensor, name: str, trainable: bool = True) -> Variable:
  """A variable that sparse optimizers can set on every replica."""
  return tf.Variable(
    value,
    name=name,
    trainable=trainable,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
  )
