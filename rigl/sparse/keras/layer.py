# SPDX-License-Identifier: Apache-2.0
"""A Keras layer that stores and computes only its active connections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl.checks import check_integer
from rigl.sparse.connections import Connections, check_size
from rigl.sparse.keras.base import StoredDense, constant
from rigl.sparse.product import SparseProduct
from rigl.sparse.sampling import random_positions, random_values
from rigl.sparse.stored import StoredConnections
from rigl.types import Tensor

_DTYPES = ("float32", "bfloat16")
_SUMS = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
# Arguments of `Dense` that need the whole kernel.
_WHOLE = ("kernel_constraint", "lora_rank", "lora_alpha", "quantization_config")


@keras.saving.register_keras_serializable(package="rigl")
class SparseDense(StoredConnections, StoredDense):
  """A `Dense` layer without its inactive connections.

  The output is activation(x @ kernel + bias), where the kernel is zero but at
  the active connections. The layer holds their values, in the weight `kernel`
  of shape [connections], and their positions. The slots of an optimizer have
  the shape of that weight. The optimizers of `rigl.keras` move connections by
  swapping values and positions in place: nothing is traced again.

  Products are computed in float32 on the CPU, by Numba or, without it, by
  TensorFlow with a dense kernel, which is slower. XLA cannot compile them:
  Keras warns if `compile` asks for `jit_compile=True`, and continues without.

  Args:
    units: number of outputs, at least 1.
    activation: as for `Dense`.
    use_bias: whether there is a bias.
    sparsity: share of inactive connections, in [0, 1).
    connections: number of active connections, at least 0, in place of
      `sparsity`. None: by `sparsity`.
    kernel_initializer: initial values. None: normal, with the standard
      deviation sqrt(2 / connections per output). An initializer of Keras makes
      a whole kernel, whose active weights are taken.
    bias_initializer: as for `Dense`.
    kernel_regularizer: None, L1, L2 or L1L2, which are sums over connections.
    bias_regularizer: as for `Dense`.
    activity_regularizer: as for `Dense`.
    bias_constraint: as for `Dense`.
    seed: seed of positions and initial values, at least 0; layers of the same
      shape and seed are equal. None: drawn as `keras.utils.set_random_seed`
      says.
    threads: how many threads may share a product, at least 1. The result has
      the same bits for any number.
    input_gradient: whether the layer computes the gradient of its input. False
      makes the first layer of a network faster, whose input is data.
    **kwargs: arguments of every Keras layer. `dtype` is a policy that stores
      and computes in float32 or bfloat16, such as `mixed_bfloat16`.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> layer = SparseDense(1000, "relu", sparsity=0.9)
    >>> layer(keras.ops.zeros([2, 784])).shape, layer.values.shape
    (TensorShape([2, 1000]), (78400,))
  """

  def __init__(
    self,
    units: int,
    activation: Any = None,
    use_bias: bool = True,
    *,
    sparsity: float = 0.9,
    connections: int | None = None,
    kernel_initializer: Any = None,
    bias_initializer: Any = "zeros",
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    bias_constraint: Any = None,
    seed: int | None = None,
    threads: int = 1,
    input_gradient: bool = True,
    **kwargs: Any,
  ) -> None:
    for name in _WHOLE:
      if kwargs.pop(name, None) is not None:
        raise ValueError(
          f"`{name}` is not possible: it needs the whole kernel, of which this "
          "layer stores the active connections only."
        )
    _check(connections, threads, kernel_regularizer)
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
    _check_policy(self.dtype_policy)
    self.num_connections = connections
    self.kernel_initializer = (
      None
      if kernel_initializer is None
      else keras.initializers.get(kernel_initializer)
    )
    self.threads = threads
    self.input_gradient = bool(input_gradient)
    self.supports_jit = False

  def build(self, input_shape: Sequence[int | None]) -> None:
    """Creates the weights.

    Args:
      input_shape: [..., inputs].

    Raises:
      ValueError: if the number of inputs is unknown, or does not go with that
        of connections.
    """
    inputs = self._num_inputs(input_shape)
    check_size(inputs, self.units)
    shape = (inputs, self.units)
    positions = self._initial_positions(shape)
    connections = Connections(shape, positions)
    self.product = SparseProduct(connections, self.threads, self.input_gradient)
    number = (positions.size,)
    self.values = self.add_weight(
      shape=number,
      initializer=constant(lambda: self._initial_values(shape, positions)),
      regularizer=self.kernel_regularizer,
      autocast=False,
      name="kernel",
    )
    self.bias = self._add_bias(autocast=False)
    self.positions = self._add_structure(positions, "positions")
    digest = np.int64(connections.digest)
    self.digest = self._add_structure(digest, "digest")
    self.built = True

  def _initial_positions(self, shape: tuple[int, int]) -> np.ndarray:
    size, number = math.prod(shape), self.num_connections
    if number is None:
      return random_positions(shape, self.sparsity, self.seed, "kernel")
    if number > size:
      raise ValueError(
        f"`connections` must be at most {shape[0]} * {shape[1]}, got {number}."
      )
    if not number:
      return np.empty(0, np.int32)
    # Half a connection more, so that rounding down gives this number.
    sparsity = (size - number + 0.5) / size
    return random_positions(shape, sparsity, self.seed, "kernel")

  def _initial_values(
    self, shape: tuple[int, int], positions: np.ndarray
  ) -> Any:
    if self.kernel_initializer is None:
      stddev = math.sqrt(2.0 / max(positions.size / shape[1], 1.0))
      return random_values(positions.size, stddev, self.seed, "kernel")
    whole = self.kernel_initializer(shape, dtype="float32")
    return tf.gather(tf.reshape(whole, [-1]), positions)

  def call(self, inputs: Tensor) -> Tensor:
    """The output of the layer.

    Args:
      inputs: [..., inputs].

    Returns:
      [..., units], of the dtype of the inputs, or, where these are whole
      numbers, of the layer's compute dtype.
    """
    y = self._affine(self._as_float(inputs))
    return y if self.activation is None else self.activation(y)

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal layer."""
    return super().get_config() | {
      "connections": self.num_connections,
      "kernel_initializer": self.kernel_initializer
      and keras.initializers.serialize(self.kernel_initializer),
      "threads": self.threads,
      "input_gradient": self.input_gradient,
    }


def _check(connections: int | None, threads: int, regularizer: Any) -> None:
  """Raises ValueError unless the arguments are in their ranges."""
  check_integer("threads", threads, 1)
  if connections is not None:
    check_integer("connections", connections, 0)
  regularizer = keras.regularizers.get(regularizer)
  if regularizer is not None and not isinstance(regularizer, _SUMS):
    raise ValueError(
      "`kernel_regularizer` must be None, L1, L2 or L1L2, got "
      f"{type(regularizer).__name__}, which may need the whole kernel."
    )


def _check_policy(policy: keras.DTypePolicy) -> None:
  dtypes = (policy.variable_dtype, policy.compute_dtype)
  is_quantized = getattr(policy, "quantization_mode", None) is not None
  if is_quantized or any(dtype not in _DTYPES for dtype in dtypes):
    raise ValueError(
      "`dtype` must be a policy that stores and computes in float32 or "
      f"bfloat16, such as 'mixed_bfloat16', got {policy.name!r}."
    )
