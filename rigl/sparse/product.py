# SPDX-License-Identifier: Apache-2.0
"""The product of a sparse layer as a TensorFlow operation with gradients."""

from __future__ import annotations

import functools
import importlib.util
import warnings

import numpy as np
import tensorflow as tf

from rigl.sparse.connections import Connections, digest_of
from rigl.sparse_optimizers.sparse_layer import NO_POSITION
from rigl.types import Tensor, Variable

# Backward passes that are kept for an optimizer that has not asked for them.
_MOST_BATCHES = 1024


class SparseProduct:
  """Computes kernel^T @ x + bias over the active connections of a kernel.

  It holds no weights; these are arguments. On the host it keeps the order of
  the connections by output, as long as their digest does not change, and, for
  optimizers that grow connections by the dense gradient, the inputs and output
  gradients of the last backward passes.

  Attributes:
    shape: (inputs, outputs) of the kernel.
    input_gradient: whether products have a gradient for x; else it is None.
    no_position: fills up the positions where connections were removed.
    keeps_batches: whether backward passes are kept for `take_batches`.

  Args:
    connections: the connections at the start.
    threads: how many threads may share a product, at least 1.
    input_gradient: whether products have a gradient for x.
  """

  no_position = NO_POSITION

  def __init__(
    self, connections: Connections, threads: int, input_gradient: bool = True
  ) -> None:
    self.shape = connections.shape
    self.input_gradient = input_gradient
    self.keeps_batches = False
    self._threads = threads
    self._connections = connections
    self._digest = connections.digest
    self._batches: list[tuple[np.ndarray, np.ndarray]] = []

  def __call__(
    self,
    x: Tensor,
    values: Tensor,
    bias: Tensor,
    positions: Variable,
    digest: Variable,
    features_first: bool = False,
  ) -> Tensor:
    """The product, with gradients for values, bias and, if wanted, x.

    Args:
      x: float32 [batch, inputs], or [inputs, batch] with `features_first`.
      values: float32 [connections].
      bias: float32 [outputs].
      positions: int32 [connections], ascending, `no_position` at the end.
      digest: int64 scalar, `digest_of` these positions.
      features_first: the order of the axes of x and of the product. Numba
        computes features first, and transposes otherwise.

    Returns:
      float32 [batch, outputs], or [outputs, batch] with `features_first`.
    """
    order = (tf.convert_to_tensor(positions), tf.convert_to_tensor(digest))
    if has_numba():
      return _compiled(self, x, values, bias, order, features_first)
    if not features_first:
      return _by_tensorflow(self, x, values, bias, order)
    y = _by_tensorflow(self, tf.transpose(x), values, bias, order)
    return tf.transpose(y)

  def connections_of(self, positions: np.ndarray, digest: int) -> Connections:
    """The connections at some positions; those of the last call if equal."""
    if digest != self._digest:
      number = int(np.searchsorted(positions, self.no_position))
      self._connections = Connections(self.shape, positions[:number].copy())
      self._digest = digest
    return self._connections

  @staticmethod
  def digest_of(positions: np.ndarray) -> np.int64:
    """The digest of padded positions."""
    return np.int64(digest_of(positions))

  def keep(self, inputs: np.ndarray, gradients: np.ndarray) -> None:
    """Keeps a backward pass for `take_batches`, if that is wanted.

    Args:
      inputs: float32 [inputs, batch].
      gradients: float32 [outputs, batch].

    Raises:
      RuntimeError: if too many passes were kept and none was taken.
    """
    if self.keeps_batches:
      self._batches.append((inputs, gradients))
      if len(self._batches) > _MOST_BATCHES:
        self._batches.clear()
        raise RuntimeError(
          f"A sparse layer made {_MOST_BATCHES} backward passes without a call "
          "of its optimizer, which takes them to grow connections."
        )

  def take_batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns and forgets the backward passes since the last call.

    The dense gradient is the sum of inputs @ gradients^T over them.

    Returns:
      Pairs of float32 [inputs, batch] and float32 [outputs, batch].
    """
    taken, self._batches = self._batches, []
    return taken


@functools.cache
def has_numba() -> bool:
  """Whether Numba is installed; warns once if it is not."""
  found = importlib.util.find_spec("numba") is not None
  if not found:
    warnings.warn(
      "Numba is not installed, so sparse layers compute with dense kernels, "
      "which is slower: pip install 'rigl[sparse]'.",
      stacklevel=2,
    )
  return found


def _compiled(
  product: SparseProduct,
  x: Tensor,
  values: Tensor,
  bias: Tensor,
  order: tuple[Tensor, Tensor],
  features_first: bool,
) -> Tensor:
  """The product on the host, by Numba."""
  from rigl.sparse import products

  inputs, outputs = product.shape
  threads = product._threads
  axis = 1 if features_first else 0  # Of the batch.

  def swapped(matrix: np.ndarray) -> np.ndarray:
    return matrix if features_first else products.transposed(matrix)

  def forward(
    x: np.ndarray,
    values: np.ndarray,
    bias: np.ndarray,
    positions: np.ndarray,
    digest: np.ndarray,
  ) -> list[np.ndarray]:
    connections = product.connections_of(positions, int(digest))
    tall = swapped(x)
    y = products.forward(connections, values, bias, tall, threads)
    return [y] if features_first else [products.transposed(y), tall]

  def backward(
    tall: np.ndarray,
    gradients: np.ndarray,
    values: np.ndarray,
    positions: np.ndarray,
    digest: np.ndarray,
  ) -> list[np.ndarray]:
    connections = product.connections_of(positions, int(digest))
    gradients = swapped(gradients)
    product.keep(tall, gradients)
    results = []
    if product.input_gradient:
      into_x, sampled = products.backward(
        connections, values, tall, gradients, threads
      )
      results = [swapped(into_x)]
    else:
      sampled = products.backward_of_values(
        connections, tall, gradients, threads
      )
    missing = values.size - sampled.size
    return [np.pad(sampled, (0, missing)) if missing else sampled, *results]

  def sizes(features: int) -> list[int | None]:
    return [features, x.shape[1]] if features_first else [x.shape[0], features]

  @tf.custom_gradient
  def multiply(x: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    dtypes = [tf.float32] * (1 if features_first else 2)
    # One result comes without a list.
    y, *others = tf.nest.flatten(
      tf.numpy_function(forward, [x, values, bias, *order], dtypes)
    )
    y.set_shape(sizes(outputs))
    # The backward pass needs the inputs features first as well.
    tall = others[0] if others else x

    def grad(upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
      sampled, *results = tf.nest.flatten(
        tf.numpy_function(
          backward,
          [tall, upstream, values, *order],
          [tf.float32] * (1 + product.input_gradient),
        )
      )
      sampled.set_shape(values.shape)
      for into_x in results:
        into_x.set_shape(sizes(inputs))
      into_x = results[0] if results else None
      return into_x, sampled, tf.reduce_sum(upstream, axis)

    return y, grad

  return multiply(x, values, bias)


def _by_tensorflow(
  product: SparseProduct,
  x: Tensor,
  values: Tensor,
  bias: Tensor,
  order: tuple[Tensor, Tensor],
) -> Tensor:
  """The product with a dense kernel, by TensorFlow."""
  positions, _ = order
  inputs, outputs = product.shape
  active = positions < product.no_position
  place = tf.where(active, positions, 0)

  def kept(
    x: np.ndarray, upstream: np.ndarray, result: np.ndarray
  ) -> np.ndarray:
    product.keep(x.T, upstream.T)
    return result

  @tf.custom_gradient
  def multiply(x: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    flat = tf.scatter_nd(
      place[:, None], tf.where(active, values, 0.0), [inputs * outputs]
    )
    kernel = tf.reshape(flat, [inputs, outputs])

    def grad(upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
      dense = tf.reshape(tf.matmul(x, upstream, transpose_a=True), [-1])
      sampled = tf.where(active, tf.gather(dense, place), 0.0)
      # Whether it is wanted is known later: functions are traced before.
      sampled = tf.numpy_function(kept, [x, upstream, sampled], tf.float32)
      sampled.set_shape(values.shape)
      into_x = None
      if product.input_gradient:
        into_x = tf.matmul(upstream, kernel, transpose_b=True)
      return into_x, sampled, tf.reduce_sum(upstream, 0)

    return tf.matmul(x, kernel) + bias, grad

  return multiply(x, values, bias)
