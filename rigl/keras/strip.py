# SPDX-License-Identifier: Apache-2.0
"""`strip`: a plain Keras model from one that was trained sparsely."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from rigl.keras.compact_layers import (
  StoredLayer,
  check_ordinary,
  set_dense,
  stored_layers,
)
from rigl.keras.copies import copy_model
from rigl.keras.slots import find_slots
from rigl.keras.wrapped import sparse_optimizer_of

# {id of the variable of its values: a layer that stores only these}.
_Stored: TypeAlias = Mapping[int, StoredLayer]


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
    ValueError: if the model has no sparse optimizer, or cannot be copied, or
      `in_place` is not possible.
  """
  sparse_optimizer_of(model)  # Raises if there is none.
  if in_place:
    check_ordinary(model, "`in_place` must be False for a model whose")
  stored = {id(layer.values): layer for layer in stored_layers(model)}
  plain, counterparts = (model, None) if in_place else _copy(model, stored)
  optimizer = _plain_optimizer(model.optimizer, counterparts, stored)
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
  model: keras.Model, stored: _Stored
) -> tuple[keras.Model, dict[int, keras.Variable]]:
  """A model with the same weights, all of whose layers are ordinary ones.

  Returns:
    The copy, not compiled, and {id of a variable: that of the copy}.
  """
  dense = {id(layer): layer.dense_layer() for layer in stored.values()}
  try:
    copy, counterparts = copy_model(model, dense)
  except ValueError as error:
    raise _cannot_be_copied(str(error)) from error
  for layer in stored.values():
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
  stored: _Stored,
) -> keras.optimizers.Optimizer:
  """The optimizer inside a sparse one, within the same loss scale.

  Args:
    optimizer: a sparse optimizer, or a `LossScaleOptimizer` around one.
    counterparts: variables of the copy of the model, by the `id` of those that
      were trained. None: the model itself is used, and its plain optimizer.
    stored: the layers of the model that store only their active connections.
  """
  inner = optimizer.inner_optimizer
  if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
    if counterparts is None:
      return inner
    return _copied(inner, counterparts, stored)
  inner = _plain_optimizer(inner, counterparts, stored)
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
  stored: _Stored,
) -> keras.optimizers.Optimizer:
  """A plain optimizer of the same configuration and state."""
  copy = type(optimizer).from_config(optimizer.get_config())
  if optimizer.built:
    trained = optimizer._trainable_variables
    if any(id(variable) not in counterparts for variable in trained):
      raise _cannot_be_copied("its optimizer also trains other variables")
    copy.build([counterparts[id(variable)] for variable in trained])
    if len(copy.variables) != len(optimizer.variables):
      # Muon, for example, has two slots for a vector of active weights, and
      # one for a matrix.
      warnings.warn(
        "The slots of the optimizer start anew, because it has other slots for "
        "a dense kernel.",
        stacklevel=4,
      )
      copy._iterations.assign(optimizer._iterations)
      return copy
    whole = _whole_slots(optimizer, trained, stored)
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
  optimizer: keras.optimizers.Optimizer,
  trained: Sequence[Any],
  stored: _Stored,
) -> dict[int, np.ndarray]:
  """The slots of layers that store connections, as those of dense kernels.

  Returns:
    {id of a slot: array of the shape of the kernel}.
  """
  whole = {}
  values = [variable for variable in trained if id(variable) in stored]
  for value, slots in zip(values, find_slots(optimizer, values), strict=True):
    layer = stored[id(value)]
    for slot in slots.all():
      found = slot.variable.numpy()
      whole[id(slot.variable)] = layer.whole(found, slot.start or 0.0)
    if slots.accumulator is not None:
      found = slots.accumulator.numpy()
      whole[id(slots.accumulator)] = layer.whole(found)
  return whole


def _new_metric(metric: Any) -> Any:
  """A metric without the state of the given one; others as they are."""
  if isinstance(metric, keras.metrics.Metric):
    return type(metric).from_config(metric.get_config())
  return metric
