# SPDX-License-Identifier: Apache-2.0
"""Layers of a model that store only their active connections.

They are those of `rigl.sparse.keras`; this package knows their interface only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from rigl.keras.live import loss_scaler_of, owners
from rigl.sparse_optimizers.sparse_layer import CompactLayer
from rigl.structures import Structure
from rigl.types import Tensor


def compact_layers_of(variables: Sequence[Any]) -> list[CompactLayer | None]:
  """The layer whose connections each variable holds; None for others."""
  return [
    compact_owner(variable, layers)
    for variable, layers in zip(variables, owners(variables), strict=True)
  ]


def compact_owner(
  variable: Any, layers: Sequence[keras.layers.Layer]
) -> CompactLayer | None:
  """The layer whose connections a variable holds, among its layers."""
  for layer in layers:
    if isinstance(layer, CompactLayer):
      values: Any = layer.values
      if variable is values or variable is values.value:
        return layer
  return None


@runtime_checkable
class StoredLayer(CompactLayer, Protocol):
  """A layer of a model that can become a `Dense` layer.

  Attributes:
    bias: variable [outputs], or None.
  """

  bias: Any

  def dense_layer(self) -> keras.layers.Dense:
    """A new `Dense` layer of the same settings, not built yet."""

  def kernel(self) -> np.ndarray:
    """float32 [inputs, outputs], with zeros where no connection is."""


def stored_layers(model: keras.Model) -> list[Any]:
  """The layers of a model that store only their active connections."""
  found = {
    id(layer): layer
    for layer in model._flatten_layers()
    if isinstance(layer, StoredLayer)
  }
  return list(found.values())


def set_dense(layer: StoredLayer, dense: keras.layers.Dense) -> None:
  """Gives a `Dense` layer, which is built, the weights of a stored one."""
  dense.kernel.assign(layer.kernel())
  if dense.use_bias:
    dense.bias.assign(layer.bias)


def check_ordinary(model: keras.Model, message: str) -> None:
  """Raises ValueError if layers store only their active connections.

  Args:
    model: the model.
    message: how the text of the error begins.
  """
  layers = stored_layers(model)
  if layers:
    raise ValueError(
      f"{message} layers store only their active connections, got "
      f"{layers[0].name!r}: rigl.sparse.to_dense(model) gives a model of dense "
      "layers."
    )


def check_trainable(
  optimizer: keras.optimizers.Optimizer,
  takes_compact_layers: bool,
  needs_batches: bool,
  structure: Structure | None,
) -> None:
  """Raises ValueError unless an optimizer can train such layers.

  Args:
    optimizer: the sparse optimizer.
    takes_compact_layers: whether its method trains them.
    needs_batches: whether it grows by their dense gradient.
    structure: the structure of its masks, or None.
  """
  method = type(optimizer).__name__
  if not takes_compact_layers:
    raise ValueError(
      f"{method} cannot train layers that store only their active connections, "
      "because it keeps a weight of every connection."
    )
  if structure is not None:
    raise ValueError(
      "`structure` must be None for layers that store only their active "
      f"connections, got {structure}."
    )
  if tf.distribute.get_strategy().num_replicas_in_sync > 1:
    raise ValueError(
      "Layers that store only their active connections train on one replica, "
      f"got {tf.distribute.get_strategy().num_replicas_in_sync} of them."
    )
  if needs_batches and loss_scaler_of(optimizer) is not None:
    raise ValueError(
      f"{method} cannot train layers that store only their active connections "
      "inside a LossScaleOptimizer, which hides the scale of the dense "
      "gradient: use mixed_bfloat16 in place of mixed_float16."
    )


def own_sparsities(
  layers: Mapping[str, CompactLayer], starts_dense: bool, method: str
) -> dict[str, float]:
  """The shares of inactive connections of layers, by their paths.

  Raises:
    ValueError: if the method starts dense and a layer is sparse.
  """
  sparsities = {}
  for path, layer in layers.items():
    size = int(np.prod(layer.shape, dtype=np.int64))
    number = int(layer.values.shape[0])
    if starts_dense and number != size:
      raise ValueError(
        f"{method} starts dense, but {path!r} has {number} of {size} "
        "connections: make its layer with `sparsity` 0."
      )
    sparsities[path] = 1 - number / size
  return sparsities


def forget_batches(
  layers: Sequence[CompactLayer], gradients: Sequence[Tensor], completes: Tensor
) -> None:
  """Lets layers forget the backward passes of a step that is complete.

  Args:
    layers: the layers.
    gradients: their gradients, which must be computed before.
    completes: bool scalar, whether the step is complete.
  """

  def forget(completes: Any, *_: Any) -> None:
    if completes:
      for layer in layers:
        layer.take_batches()

  inputs = [completes, *gradients]
  if tf.executing_eagerly():
    forget(*inputs)
  else:
    tf.numpy_function(forget, inputs, [])
