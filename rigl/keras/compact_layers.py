# SPDX-License-Identifier: Apache-2.0
"""Layers of a model that store only their active connections.

They are those of `rigl.sparse.keras`; this package knows their interface only.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from rigl.keras.live import Owners, loss_scaler_of
from rigl.sparse_optimizers.sparse_layer import (
  NO_POSITION,
  BlockLayer,
  CompactLayer,
)
from rigl.structures import Structure
from rigl.types import Tensor

# A layer that stores only its active connections or blocks.
SparseStorage: TypeAlias = CompactLayer | BlockLayer


def storage_owner(variable: Any, owners: Owners) -> SparseStorage | None:
  """The layer whose connections or blocks a variable holds.

  Args:
    variable: a Keras variable, or its TensorFlow variable.
    owners: the layers that own it.

  Returns:
    The layer; None for the variable of an ordinary one.
  """
  for layer in owners:
    if isinstance(layer, SparseStorage):
      values: Any = layer.values
      if variable is values or variable is values.value:
        return layer
  return None


@runtime_checkable
class StoredLayer(Protocol):
  """A layer of a model that can become a `Dense` layer.

  Attributes:
    shape: [inputs, outputs] of the kernel.
    values: variable of the weights that are stored.
    bias: variable [outputs], or None.
  """

  shape: tf.TensorShape
  values: Any
  bias: Any

  def dense_layer(self) -> keras.layers.Dense:
    """A new `Dense` layer of the same settings, not built yet."""

  def kernel(self) -> np.ndarray:
    """float32 [inputs, outputs], with zeros where no connection is."""

  def whole(self, stored: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """An array of the kernel's shape.

    Args:
      stored: array of the shape of `values`, such as a slot.
      fill: what inactive connections get.
    """


def stored_layers(model: keras.Model) -> list[Any]:
  """The built layers of a model that store only their active connections."""
  found = {
    id(layer): layer
    for layer in model._flatten_layers()
    if isinstance(layer, StoredLayer)
  }
  return list(found.values())


def count_stored(layer: StoredLayer) -> int:
  """The number of active connections of a layer that stores only these."""
  if isinstance(layer, CompactLayer):
    return int(np.count_nonzero(layer.positions.numpy() < NO_POSITION))
  return int(np.prod(layer.values.shape, dtype=np.int64))


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
  optimizer: Any,
  layers: Mapping[str, SparseStorage],
  structure: Structure | None,
) -> None:
  """Raises ValueError unless an optimizer can train such layers.

  Args:
    optimizer: the sparse optimizer.
    layers: the layers that have their connections already, by their paths.
    structure: the structure of its masks, or None.
  """
  if structure is not None:
    raise ValueError(
      "`structure` must be None for layers that store only their active "
      f"connections, got {structure}."
    )
  if any(isinstance(layer, BlockLayer) for layer in layers.values()):
    _check_blocks(optimizer)
  if any(isinstance(layer, CompactLayer) for layer in layers.values()):
    if not optimizer.takes_compact_layers:
      raise ValueError(
        f"{type(optimizer).__name__} cannot train layers that store only their "
        f"active connections, because {optimizer.why_no_compact_layers}."
      )
    _check_compact(optimizer, optimizer.needs_batches)


def _check_blocks(optimizer: Any) -> None:
  method = type(optimizer).__name__
  if not optimizer.takes_block_layers:
    raise ValueError(
      f"{method} cannot train layers that store only their active blocks: "
      "RigL, SET, Static and FixedMask can."
    )
  length = optimizer.gradient_accumulation_steps
  if optimizer.needs_batches and length:
    raise ValueError(
      "`gradient_accumulation_steps` must be None for layers that store only "
      f"their active blocks, because {method} grows them by the gradient of "
      f"one batch, got {length}."
    )


def _check_compact(
  optimizer: keras.optimizers.Optimizer, needs_batches: bool
) -> None:
  method = type(optimizer).__name__
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
  layers: Mapping[str, SparseStorage], starts_dense: bool, method: str
) -> dict[str, float]:
  """The shares of inactive connections of layers, by their paths.

  Raises:
    ValueError: if the method starts dense and a layer is sparse.
  """
  sparsities = {}
  for path, layer in layers.items():
    size = int(np.prod(layer.shape, dtype=np.int64))
    number = int(np.prod(layer.values.shape, dtype=np.int64))
    if starts_dense and number != size:
      raise ValueError(
        f"{method} starts dense, but {path!r} has {number} of {size} "
        "connections: make its layer with `sparsity` 0."
      )
    sparsities[path] = 1 - number / size
  return sparsities


def keep_batches_for(
  optimizer: keras.optimizers.Optimizer,
  layers: Sequence[SparseStorage | None],
) -> None:
  """Lets layers keep their backward passes as long as an optimizer lives.

  The model may be compiled with another one then, which does not take them.

  Args:
    optimizer: the optimizer that takes the backward passes.
    layers: the layers; None is left out.
  """
  for layer in layers:
    if layer is not None:
      layer.keep_batches()
      end = weakref.finalize(optimizer, layer.keep_batches, wanted=False)
      end.atexit = False


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
