# SPDX-License-Identifier: Apache-2.0
"""What every layer that stores its active connections has in common.

`dense` adds a `tf.Module`, `keras.layer` a layer of Keras.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from rigl.sparse.connections import Connections
from rigl.sparse.product import SparseProduct
from rigl.types import Tensor, Variable


class StoredConnections:
  """The active connections of a kernel: variables, and what is done with them.

  Attributes:
    values: float variable [connections], the weights.
    positions: int32 variable [connections], index into the flat kernel,
      ascending; `product.no_position` at the end where there are fewer.
    digest: int64 variable, a number that differs for different positions.
    bias: float variable [outputs], or None.
    product: computes with them on the host.
  """

  values: Variable
  positions: Variable
  digest: Variable
  bias: Variable | None
  product: SparseProduct
  _num_keepers = 0

  @property
  def shape(self) -> tf.TensorShape:
    """[inputs, outputs], that of the kernel."""
    return tf.TensorShape(self.product.shape)

  def mask(self) -> np.ndarray:
    """Bool [inputs, outputs], true where a connection is active."""
    return self.connections().mask()

  def kernel(self) -> np.ndarray:
    """float32 [inputs, outputs], the values and zeros elsewhere."""
    values = tf.cast(tf.convert_to_tensor(self.values), tf.float32)
    return self.whole(values.numpy())

  def whole(self, stored: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """An array of the kernel's shape, of one of its active connections.

    Args:
      stored: [connections], such as the values or a slot.
      fill: what inactive connections get.

    Returns:
      [inputs, outputs], of the dtype of `stored`.
    """
    connections = self.connections()
    flat = np.full(math.prod(connections.shape), fill, stored.dtype)
    flat[connections.positions] = stored[: connections.number]
    return flat.reshape(connections.shape)

  def connections(self) -> Connections:
    """The positions that are in use."""
    return self.product.connections_of(
      self.positions.numpy(), int(self.digest.numpy())
    )

  def keep_batches(self, wanted: bool = True) -> None:
    """Keeps backward passes for `take_batches`, which must be called then.

    Args:
      wanted: False ends what another call has begun; when all have ended, none
        are kept.
    """
    self._num_keepers += 1 if wanted else -1
    self.product.keeps_batches = self._num_keepers > 0
    if not self.product.keeps_batches:
      self.product.take_batches()

  def take_batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
    """Backward passes since the last call; see `SparseProduct`."""
    return self.product.take_batches()

  def set_connections(
    self, positions: Tensor, values: Tensor
  ) -> list[tf.Operation]:
    """Replaces the active connections by others.

    Args:
      positions: int32 [connections], ascending; there may be fewer than now,
        and the rest is filled up with `product.no_position`.
      values: [connections], their weights.

    Returns:
      The assignments.
    """
    missing = self.values.shape[0] - tf.shape(positions)[0]
    padding = [[0, missing]]
    positions = tf.pad(
      positions, padding, constant_values=self.product.no_position
    )
    values = tf.pad(tf.cast(values, self.values.dtype), padding)
    digest = tf.numpy_function(
      self.product.digest_of, [positions], tf.int64, stateful=False
    )
    length = tuple(self.values.shape)
    return [
      self.values.assign(tf.ensure_shape(values, length)),
      self.positions.assign(tf.ensure_shape(positions, length)),
      self.digest.assign(tf.reshape(digest, [])),
    ]

  def _affine(self, x: Tensor) -> Tensor:
    """X @ kernel + bias.

    Args:
      x: float [..., inputs].

    Returns:
      [..., outputs], of the dtype of x.
    """
    inputs, outputs = self.product.shape
    y = self._product(tf.reshape(x, [-1, inputs]))
    shape = tf.concat([tf.shape(x)[:-1], [outputs]], 0)
    y = tf.reshape(y, shape)
    y.set_shape([*x.shape[:-1], outputs])
    return y

  def _product(self, x: Tensor, features_first: bool = False) -> Tensor:
    """The product of a matrix, of its dtype; see `SparseProduct`."""
    bias = tf.zeros(self.shape[1:]) if self.bias is None else self.bias
    y = self.product(
      tf.cast(x, tf.float32),
      tf.cast(tf.convert_to_tensor(self.values), tf.float32),
      tf.cast(tf.convert_to_tensor(bias), tf.float32),
      self.positions,
      self.digest,
      features_first,
    )
    return tf.cast(y, x.dtype)
