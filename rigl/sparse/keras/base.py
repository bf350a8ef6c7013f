# SPDX-License-Identifier: Apache-2.0
"""What the Keras layers that store a part of their kernel have in common."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl.checks import check_integer, check_number
from rigl.types import Tensor, Variable


class StoredDense(keras.layers.Layer):
  """The settings and the bias of a `Dense` layer, without a kernel.

  Args:
    units: number of outputs, at least 1.
    activation: as for `Dense`.
    use_bias: whether there is a bias.
    sparsity: share of the kernel that is inactive, in [0, 1).
    bias_initializer: as for `Dense`.
    kernel_regularizer: as for `Dense`; it gets what the layer stores.
    bias_regularizer: as for `Dense`.
    activity_regularizer: as for `Dense`.
    bias_constraint: as for `Dense`.
    seed: seed of structure and initial values, at least 0. None: drawn as
      `keras.utils.set_random_seed` says.
    **kwargs: arguments of every Keras layer.

  Raises:
    ValueError: if an argument is not as described.
  """

  # Of the layers that have this argument.
  kernel_initializer: Any = None

  def __init__(
    self,
    units: int,
    activation: Any,
    use_bias: bool,
    *,
    sparsity: float,
    bias_initializer: Any,
    kernel_regularizer: Any,
    bias_regularizer: Any,
    activity_regularizer: Any,
    bias_constraint: Any,
    seed: int | None,
    **kwargs: Any,
  ) -> None:
    check_integer("units", units, 1)
    check_number("sparsity", sparsity, 0, 1, below=True)
    if seed is not None:
      check_integer("seed", seed, 0)
    super().__init__(activity_regularizer=activity_regularizer, **kwargs)
    self.units = int(units)
    self.activation = keras.activations.get(activation)
    self.use_bias = bool(use_bias)
    self.sparsity = float(sparsity)
    self.bias_initializer = keras.initializers.get(bias_initializer)
    self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
    self.bias_regularizer = keras.regularizers.get(bias_regularizer)
    self.bias_constraint = keras.constraints.get(bias_constraint)
    # Python's generator, which Keras seeds and takes its seeds from.
    self.seed = random.randrange(2**31) if seed is None else int(seed)
    self.input_spec = keras.InputSpec(min_ndim=2)
    self.supports_masking = True

  def _num_inputs(self, input_shape: Sequence[int | None]) -> int:
    """The number of inputs for the shape [..., inputs] of the input.

    Raises:
      ValueError: if it is unknown.
    """
    inputs = input_shape[-1]
    if inputs is None:
      raise ValueError(
        f"{self.name!r} needs a known number of inputs, got {input_shape}."
      )
    self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: inputs})
    return inputs

  def _add_bias(self, **kwargs: Any) -> Variable | None:
    """Creates the bias, if there is one.

    Args:
      **kwargs: further arguments of `add_weight`.
    """
    if not self.use_bias:
      return None
    return self.add_weight(
      shape=(self.units,),
      initializer=self.bias_initializer,
      regularizer=self.bias_regularizer,
      constraint=self.bias_constraint,
      name="bias",
      **kwargs,
    )

  def _add_structure(
    self, value: np.ndarray | np.generic, name: str
  ) -> Variable:
    """Creates a weight that says where connections are."""
    return self.add_weight(
      shape=np.shape(value),
      initializer=constant(lambda: value),
      dtype=value.dtype.name,
      trainable=False,
      autocast=False,
      aggregation="only_first_replica",
      name=name,
    )

  def _as_float(self, inputs: Any) -> Tensor:
    """The input; whole numbers become floats, as in `Dense`."""
    x = tf.convert_to_tensor(inputs)
    return x if x.dtype.is_floating else tf.cast(x, self.compute_dtype)

  def compute_output_shape(
    self, input_shape: Sequence[int | None]
  ) -> tuple[int | None, ...]:
    """The shape of the output for one of the input."""
    return (*input_shape[:-1], self.units)

  def dense_layer(self) -> keras.layers.Dense:
    """A new `Dense` layer of the same settings, not built yet."""
    return keras.layers.Dense(
      self.units,
      self.activation,
      self.use_bias,
      kernel_initializer=self.kernel_initializer or "glorot_uniform",
      bias_initializer=self.bias_initializer,
      kernel_regularizer=self.kernel_regularizer,
      bias_regularizer=self.bias_regularizer,
      activity_regularizer=self.activity_regularizer,
      bias_constraint=self.bias_constraint,
      name=self.name,
      dtype=self.dtype_policy,
      trainable=self.trainable,
    )

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal layer."""
    regularizers = keras.regularizers
    return super().get_config() | {
      "units": self.units,
      "activation": keras.activations.serialize(self.activation),
      "use_bias": self.use_bias,
      "sparsity": self.sparsity,
      "bias_initializer": keras.initializers.serialize(self.bias_initializer),
      "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
      "bias_regularizer": regularizers.serialize(self.bias_regularizer),
      "activity_regularizer": regularizers.serialize(self.activity_regularizer),
      "bias_constraint": keras.constraints.serialize(self.bias_constraint),
      "seed": self.seed,
    }


def constant(make: Callable[[], Any]) -> Callable[..., Tensor]:
  """An initializer that gives one value.

  Args:
    make: makes the value.
  """

  def initializer(shape: Any, dtype: Any = None) -> Tensor:
    del shape
    return keras.ops.cast(keras.ops.convert_to_tensor(make()), dtype)

  return initializer
