# SPDX-License-Identifier: Apache-2.0
"""`strip`: a plain Keras model from one that was trained sparsely."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from rigl.keras.compact_layers import (
  check_ordinary,
  compact_layers_of,
  set_dense,
  stored_layers,
)
from rigl.keras.copies import copy_model
from rigl.keras.slots import find_slots
from rigl.keras.wrapped import sparse_optimizer_of
from rigl.sparse_optimizers.sparse_layer import NO_POSITION, CompactLayer


def strip(model: keras.Model, in_place: bool = False) -> keras.Model:
  """Returns the model with the plain optimizer inside its sparse one.

  The weights are the same, with their zeros. The state of the plain optimizer
  (slots, iterations, averages, loss scale) is kept. Files of the result need
  no `rigl`. Further training of it is dense: zeros become weights.

  Args:
    model: a model that was compiled with a sparse optimizer of `rigl.keras`,
      also one within a `LossScaleOptimizer`.
    in_place: False copies the model, so that the argument can go on training
      sparsely. True compiles the model itself anew and returns it: for models
      that Keras cannot copy, or that are too large for a copy; not for those
      with layers that store only their active connections.

  Returns:
    The plain model, compiled with the same loss and metrics.

  Raises:
    ValueError: if the model has no sparse optimizer, or cannot be copied.
  """
  sparse_optimizer_of(model)  # Raises if there is none.
  if in_place:
    check_ordinary(model, "`in_place` must be False for a model whose")
  plain, counterparts = (model, None) if in_place else _copy(model)
  optimizer = _plain_optimizer(model.optimizer, counterparts)
  settings: dict[str, Any] = {
    **model._compile_config.config,  # The arguments of `compile`.
    "optimizer": optimizer,
    "auto_scale_loss": False,  # It has the scale that it had.
  }
  if not in_place:
    for name in ("metrics", "weighted_metrics"):
      settings[name] = keras.tree.map_structure(_new_metric, settings[name])
  plain.compile(**settings)
  return plain


def _copy(
  model: keras.Model,
) -> tuple[keras.Model, dict[int, keras.Variable]]:
  """A model with the same weights, all of whose layers are ordinary ones.

  Returns:
    The copy, not compiled, and {id of a variable: that of the copy}.
  """
  layers = stored_layers(model)
  dense = {id(layer): layer.dense_layer() for layer in layers}
  try:
    copy, counterparts = copy_model(model, dense)
  except ValueError as error:
    raise _cannot_be_copied(str(error)) from error
  for layer in layers:
    new = dense[id(layer)]
    set_dense(layer, new)
    pairs = [(layer.values, new.kernel), (layer.bias, new.bias)]
    for old, mine in pairs[: 2 if new.use_bias else 1]:
      counterparts[id(old)] = mine
  return copy, counterparts


def _cannot_be_copied(reason: str) -> ValueError:
  return ValueError(
    "`model` must be one that Keras can copy by its configuration, unless "
    f"`in_place` is True: {reason}."
  )


def _plain_optimizer(
  optimizer: keras.optimizers.Optimizer,
  counterparts: dict[int, keras.Variable] | None,
) -> keras.optimizers.Optimizer:
  """The optimizer inside a sparse one, within the same loss scale.

  Args:
    optimizer: a sparse optimizer, or a `LossScaleOptimizer` around one.
    counterparts: variables of the copy of the model, by the `id` of those that
      were trained. None: the model itself is used, and its plain optimizer.
  """
  inner = optimizer.inner_optimizer
  if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
    return inner if counterparts is None else _copied(inner, counterparts)
  inner = _plain_optimizer(inner, counterparts)
  scaled = keras.optimizers.LossScaleOptimizer(
    inner,
    optimizer.initial_scale,
    optimizer.dynamic_growth_steps,
    name=optimizer.name,
  )
  if optimizer.built and inner.built:
    scaled.build(inner._trainable_variables)
    scaled.step_counter.assign(optimizer.step_counter)
    scaled.dynamic_scale.assign(optimizer.dynamic_scale)
  return scaled


def _copied(
  optimizer: keras.optimizers.Optimizer,
  counterparts: dict[int, keras.Variable],
) -> keras.optimizers.Optimizer:
  """A plain optimizer of the same configuration and state."""
  copy = type(optimizer).from_config(optimizer.get_config())
  if optimizer.built:
    trained = optimizer._trainable_variables
    if any(id(variable) not in counterparts for variable in trained):
      raise _cannot_be_copied("its optimizer also trains other variables")
    copy.build([counterparts[id(variable)] for variable in trained])
    whole = _whole_slots(optimizer, trained)
    for new, old in zip(copy.variables, optimizer.variables, strict=True):
      value = whole.get(id(old), old)
      if new.shape == value.shape:
        new.assign(value)
      else:
        warnings.warn(
          f"The state {old.name!r} of the optimizer starts anew: it has "
          "another form for a dense kernel.",
          stacklevel=4,
        )
  return copy


def _whole_slots(
  optimizer: keras.optimizers.Optimizer, trained: Sequence[Any]
) -> dict[int, np.ndarray]:
  """The slots of layers that store connections, as those of dense kernels.

  Returns:
    {id of a slot: array of the shape of the kernel}.
  """
  whole = {}
  compact = compact_layers_of(trained)
  found = find_slots(optimizer, trained)
  for layer, slots in zip(compact, found, strict=True):
    if not isinstance(layer, CompactLayer):
      continue
    positions = layer.positions.numpy()
    used = positions < NO_POSITION
    shape = tuple(layer.shape)
    for variable, start in [
      *((slot.variable, slot.start or 0.0) for slot in slots.all()),
      *([] if slots.accumulator is None else [(slots.accumulator, 0.0)]),
    ]:
      value = variable.numpy()
      array = np.full(math.prod(shape), start, value.dtype)
      array[positions[used]] = value[used]
      whole[id(variable)] = array.reshape(shape)
  return whole


def _new_metric(metric: Any) -> Any:
  """A metric without the state of the given one; others as they are."""
  if isinstance(metric, keras.metrics.Metric):
    return type(metric).from_config(metric.get_config())
  return metric
