# SPDX-License-Identifier: Apache-2.0
"""A Keras layer that stores and computes only its active blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
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
)
from rigl.sparse.block_product import Batches, KeptBatches
from rigl.sparse.block_structure import Degrees
from rigl.sparse.keras.base import StoredDense, constant
from rigl.types import Tensor


@keras.saving.register_keras_serializable(package="rigl")
class BlockSparseDense(StoredDense):
  """A `Dense` layer without its inactive blocks.

  The output is activation(x @ kernel + bias), where the kernel consists of
  b x b blocks. Every block of outputs reads the same number of input blocks,
  and every input block is read by the same number of output blocks. The layer
  holds the active blocks in the weight `kernel` of shape [blocks, b, b]; the
  slots of an optimizer have the shape of that weight. XLA compiles it on every
  device. The optimizers `rigl.keras.RigL`, `SET`, `Static` and `FixedMask`
  train it.

  Args:
    units: number of outputs, at least 1.
    activation: as for `Dense`.
    use_bias: whether there is a bias.
    sparsity: wanted share of inactive blocks, in [0, 1). The nearest possible
      one is taken, as in `rigl.sparse.BlockSparseDense`; `degrees.sparsity`
      tells it.
    block: number b of inputs, and outputs, of a block; it must divide both
      sizes.
    bias_initializer: as for `Dense`.
    kernel_regularizer: as for `Dense`; it gets the active blocks.
    bias_regularizer: as for `Dense`.
    activity_regularizer: as for `Dense`.
    bias_constraint: as for `Dense`.
    seed: seed of blocks and initial values, at least 0; layers of the same
      shape and seed are equal. None: drawn as `keras.utils.set_random_seed`
      says.
    **kwargs: arguments of every Keras layer, such as `dtype`, also a policy of
      mixed precision.

  Raises:
    ValueError: if an argument is not as described. `build` raises it if
      `block` does not divide the number of inputs.

  Example:
    >>> layer = BlockSparseDense(1024, "relu", sparsity=0.75)
    >>> layer(keras.ops.zeros([2, 512])).shape, layer.values.shape
    (TensorShape([2, 1024]), TensorShape([8, 128, 128]))
  """

  def __init__(
    self,
    units: int,
    activation: Any = None,
    use_bias: bool = True,
    *,
    sparsity: float = 0.9,
    block: int = 128,
    bias_initializer: Any = "zeros",
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    bias_constraint: Any = None,
    seed: int | None = None,
    **kwargs: Any,
  ) -> None:
    check_integer("units", units, 1)
    block_structure.check_block(block, units, units)
    super().__init__(
      units,
      activation,
      use_bias,
      sparsity=sparsity,
      bias_initializer=bias_initializer,
      kernel_regularizer=kernel_regularizer,
      bias_regularizer=bias_regularizer,
      activity_regularizer=activity_regularizer,
      bias_constraint=bias_constraint,
      seed=seed,
      **kwargs,
    )
    self.block = int(block)
    self._kept = KeptBatches()

  def build(self, input_shape: Sequence[int | None]) -> None:
    """Creates the weights.

    Args:
      input_shape: [..., inputs].

    Raises:
      ValueError: if the number of inputs is unknown, or not a multiple of
        `block`.
    """
    inputs = self._num_inputs(input_shape)
    degrees = chosen_degrees(inputs, self.units, self.sparsity, self.block)
    values = initial_values(degrees, self.block, self.seed, "kernel")
    grid = block_structure.random_grid(degrees, self.seed, "kernel")
    outputs_of, numbers_of = block_structure.index_arrays(grid)
    self.values = self.add_weight(
      shape=values.shape,
      initializer=constant(lambda: values),
      regularizer=self.kernel_regularizer,
      name="kernel",
    )
    self.bias = self._add_bias()
    self.outputs_of = self._add_structure(outputs_of, "outputs_of")
    self.numbers_of = self._add_structure(numbers_of, "numbers_of")
    self.built = True

  @property
  def degrees(self) -> Degrees:
    """Active blocks per block of inputs (rows), and of outputs (columns)."""
    return Degrees.of_shapes(self.outputs_of.shape, self.numbers_of.shape)

  @property
  def shape(self) -> tuple[int, int]:
    """(inputs, outputs), that of the kernel."""
    return self.degrees.rows * self.block, self.units

  def call(self, inputs: Tensor) -> Tensor:
    """The output of the layer.

    Args:
      inputs: [..., inputs].

    Returns:
      [..., units], of the dtype of the inputs, or, where these are whole
      numbers, of the layer's compute dtype.
    """
    keep = self._kept.keep if self._kept.is_wanted else self._kept.keep_latest
    bias = None if self.bias is None else tf.convert_to_tensor(self.bias)

    def apply(x: Tensor) -> Tensor:
      return apply_blocks(
        x,
        tf.convert_to_tensor(self.values),
        bias,
        tf.convert_to_tensor(self.outputs_of),
        tf.convert_to_tensor(self.numbers_of),
        keep,
      )

    y = apply_to_tokens(apply, self._as_float(inputs), self.shape)
    return y if self.activation is None else self.activation(y)

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal layer."""
    return super().get_config() | {"block": self.block}

  def grid(self) -> np.ndarray:
    """Bool [input blocks, output blocks], true where a block is active."""
    return grid_of_outputs(self.outputs_of, self.degrees.columns)

  def mask(self) -> np.ndarray:
    """Bool [inputs, units], true where a block is active."""
    return np.repeat(np.repeat(self.grid(), self.block, 0), self.block, 1)

  def kernel(self) -> np.ndarray:
    """float32 [inputs, units], the weights and zeros elsewhere."""
    values = tf.cast(tf.convert_to_tensor(self.values), tf.float32)
    return self.whole(values.numpy())

  def whole(self, stored: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """An array of the kernel's shape, of one of its active blocks.

    Args:
      stored: [blocks, b, b], such as the values or a slot.
      fill: what inactive connections get.

    Returns:
      [inputs, units], of the dtype of `stored`.
    """
    return join_blocks(stored, self.grid(), fill)

  def keep_batches(self, wanted: bool = True) -> None:
    """Keeps backward passes for `take_batches`, which must be called then.

    Args:
      wanted: False ends what another call has begun; when all have ended, none
        are kept.
    """
    self._kept.want(wanted)

  def take_batches(self) -> Batches:
    """Returns and forgets the backward passes of this function or branch."""
    return self._kept.take()
