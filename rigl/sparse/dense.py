# SPDX-License-Identifier: Apache-2.0
"""A dense layer that stores and computes only its active connections."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rigl.checks import check_integer, check_number
from rigl.sparse.connections import Connections, check_size
from rigl.sparse.dense_arrays import check_dtype, check_float, checked_arrays
from rigl.sparse.product import SparseProduct
from rigl.sparse.sampling import random_positions, random_values
from rigl.sparse.stored import StoredConnections
from rigl.types import Tensor, Variable

_DTYPES = ("float32", "bfloat16")


class SparseDense(StoredConnections, tf.Module):
  """A layer y = activation(x @ kernel + bias) without its inactive connections.

  The layer holds the values and positions of the active connections. Time and
  memory of a training step are proportional to their number, not to the size
  of the kernel. A sparse optimizer, such as `SparseRigLOptimizer`, takes the
  layer in place of a kernel, and moves connections by swapping values and
  positions in place: nothing is traced again.

  The products are computed on the CPU by Numba (extra `sparse`). Without
  Numba, TensorFlow computes them with a dense kernel, which is slower. In both
  cases the result does not depend on `threads`.

  Args:
    inputs: number of inputs, at least 1.
    outputs: number of outputs, at least 1; at most 2**31 - 1 connections in
      all, active or not.
    sparsity: share of inactive connections, in [0, 1). The mask is that of
      `sparse_utils.get_mask_random` for kernels of up to 2**26 weights.
    activation: function of the output. None: the identity.
    use_bias: whether there is a bias.
    seed: non-negative seed of the positions and initial values.
    name: name of the layer, from which the seed is derived, too.
    threads: how many threads may share a product, at least 1.
    dtype: dtype in which values are stored, float32 or bfloat16. Products are
      computed in float32.
    input_gradient: whether the layer computes the gradient of its input. False
      makes the first layer of a network faster, whose input is data; what x
      is computed from then has no gradient through this layer.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> layer = SparseDense(784, 1000, sparsity=0.9, name="hidden")
    >>> layer(tf.zeros([2, 784])).shape.as_list(), layer.values.shape[0]
    ([2, 1000], 78400)
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    sparsity: float = 0.9,
    *,
    activation: Callable[[Tensor], Tensor] | None = None,
    use_bias: bool = True,
    seed: int = 0,
    name: str = "sparse_dense",
    threads: int = 1,
    dtype: str | tf.DType = tf.float32,
    input_gradient: bool = True,
  ) -> None:
    _check(inputs, outputs, sparsity, seed, threads)
    positions = random_positions((inputs, outputs), sparsity, seed, name)
    stddev = math.sqrt(2.0 / max(positions.size / outputs, 1.0))
    self._build(
      Connections((inputs, outputs), positions),
      random_values(positions.size, stddev, seed, name),
      np.zeros(outputs, np.float32) if use_bias else None,
      activation,
      name,
      threads,
      dtype,
      input_gradient,
    )

  @classmethod
  def from_kernel(
    cls,
    kernel: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    activation: Callable[[Tensor], Tensor] | None = None,
    name: str = "sparse_dense",
    threads: int = 1,
    dtype: str | tf.DType = tf.float32,
    input_gradient: bool = True,
  ) -> SparseDense:
    """Makes a layer of a dense kernel and its mask.

    Args:
      kernel: float [inputs, outputs].
      mask: the same shape, nonzero where a connection is active. None: where
        the kernel is not zero.
      bias: float [outputs]. None: no bias.
      activation: function of the output. None: the identity.
      name: name of the layer.
      threads: how many threads may share a product, at least 1.
      dtype: dtype in which values are stored, float32 or bfloat16.
      input_gradient: whether the layer computes the gradient of its input.

    Raises:
      ValueError: if shapes do not match or an argument is not as described.
    """
    array, active, offset = checked_arrays(kernel, mask, bias)
    inputs, outputs = array.shape
    _check(inputs, outputs, 0.0, 0, threads)
    positions = np.flatnonzero(active).astype(np.int32)
    layer = cls.__new__(cls)
    layer._build(
      Connections((inputs, outputs), positions),
      array.reshape(-1)[positions],
      offset,
      activation,
      name,
      threads,
      dtype,
      input_gradient,
    )
    return layer

  @classmethod
  def from_connections(
    cls,
    shape: tuple[int, int],
    positions: np.ndarray,
    values: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    activation: Callable[[Tensor], Tensor] | None = None,
    name: str = "sparse_dense",
    bias_name: str = "bias",
    threads: int = 1,
    dtype: str | tf.DType = tf.float32,
    input_gradient: bool = True,
  ) -> SparseDense:
    """Makes a layer of its active connections.

    Args:
      shape: (inputs, outputs) of the kernel.
      positions: int [n], index into the flat kernel, ascending.
      values: float [n], the weights there.
      bias: float [outputs]. None: no bias.
      activation: function of the output. None: the identity.
      name: name of the layer.
      bias_name: last part of the name of the bias.
      threads: how many threads may share a product, at least 1.
      dtype: dtype in which values are stored, float32 or bfloat16.
      input_gradient: whether the layer computes the gradient of its input.

    Raises:
      ValueError: if shapes do not match or an argument is not as described.
    """
    _check(*shape, 0.0, 0, threads)
    if positions.ndim != 1 or values.shape != positions.shape:
      raise ValueError(
        "`values` must have the shape [n] of `positions`, got "
        f"{values.shape} and {positions.shape}."
      )
    if bias is not None and bias.shape != shape[1:]:
      raise ValueError(
        f"`bias` must have the shape {shape[1:]}, got {bias.shape}."
      )
    layer = cls.__new__(cls)
    layer._build(
      Connections(shape, np.asarray(positions, np.int32)),
      np.asarray(values, np.float32),
      bias,
      activation,
      name,
      threads,
      dtype,
      input_gradient,
      bias_name,
    )
    return layer

  def _build(
    self,
    connections: Connections,
    values: np.ndarray,
    bias: np.ndarray | None,
    activation: Callable[[Tensor], Tensor] | None,
    name: str,
    threads: int,
    dtype: str | tf.DType,
    input_gradient: bool = True,
    bias_name: str = "bias",
  ) -> None:
    check_dtype(dtype, _DTYPES)
    super().__init__(name)
    self._activation = activation
    with self.name_scope:
      self.values: Variable = tf.Variable(tf.cast(values, dtype), name="values")
      self.positions: Variable = tf.Variable(
        connections.positions, trainable=False, name="positions"
      )
      self.digest: Variable = tf.Variable(
        connections.digest, trainable=False, dtype=tf.int64, name="digest"
      )
      self.bias: Variable | None = (
        None if bias is None else tf.Variable(bias, name=bias_name)
      )
    self.product = SparseProduct(connections, threads, input_gradient)

  def __call__(self, x: Tensor) -> Tensor:
    """The output of the layer.

    Args:
      x: float [..., inputs].

    Returns:
      [..., outputs], of the dtype of x.

    Raises:
      ValueError: if the last axis has another size, or x is not float.
    """
    x = tf.convert_to_tensor(x)
    inputs, _ = self.product.shape
    if x.shape.rank is None or x.shape.rank < 1 or x.shape[-1] != inputs:
      raise ValueError(
        f"`x` must have the shape [..., {inputs}], got {x.shape}."
      )
    check_float(x)
    y = self._affine(x)
    return y if self._activation is None else self._activation(y)

  def features_first(self, x: Tensor) -> Tensor:
    """The output of the layer, of inputs that are stored feature by feature.

    The layer computes so: between two layers, this saves the transposes.

    Args:
      x: float [inputs, batch].

    Returns:
      [outputs, batch], of the dtype of x.

    Raises:
      ValueError: if x is not a matrix, its first axis has another size, or it
        is not float.
    """
    x = tf.convert_to_tensor(x)
    inputs, _ = self.product.shape
    if x.shape.rank != 2 or x.shape[0] != inputs:
      raise ValueError(
        f"`x` must have the shape [{inputs}, batch], got {x.shape}."
      )
    check_float(x)
    y = self._product(x, features_first=True)
    return y if self._activation is None else self._activation(y)


def _check(
  inputs: int, outputs: int, sparsity: float, seed: int, threads: int
) -> None:
  """Raises ValueError unless the arguments are in their ranges."""
  check_integer("inputs", inputs, 1)
  check_integer("outputs", outputs, 1)
  check_integer("threads", threads, 1)
  check_size(inputs, outputs)
  check_number("sparsity", sparsity, 0, 1, below=True)
  check_integer("seed", seed, 0)
