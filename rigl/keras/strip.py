# SPDX-License-Identifier: Apache-2.0
"""`strip`: a plain Keras model from one that was trained sparsely."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from rigl.keras.wrapped import sparse_optimizer_of

# What Keras adds to the configuration of every model.
_KERAS_ARGUMENTS = ("name", "trainable", "dtype")


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
      that Keras cannot copy, or that are too large for a copy.

  Returns:
    The plain model, compiled with the same loss and metrics.

  Raises:
    ValueError: if the model has no sparse optimizer, or cannot be copied.
  """
  sparse_optimizer_of(model)  # Raises if there is none.
  plain = model if in_place else _copy(model)
  optimizer = _plain_optimizer(
    model.optimizer, None if in_place else _counterparts(model, plain)
  )
  settings: dict[str, Any] = {
    **model._compile_config.config,  # The arguments of `compile`.
    "optimizer": optimizer,
  }
  if not in_place:
    for name in ("metrics", "weighted_metrics"):
      settings[name] = keras.tree.map_structure(_new_metric, settings[name])
  plain.compile(**settings)
  return plain


def _copy(model: keras.Model) -> keras.Model:
  """A model of the same configuration and weights, not compiled."""
  try:
    copy = _rebuild(model)
  except Exception as error:  # Whatever the classes of the model raise.
    reason = f"{type(error).__name__}: {error}"
    raise _cannot_be_copied(reason) from error
  if [v.shape for v in copy.variables] != [v.shape for v in model.variables]:
    raise _cannot_be_copied("its configuration gives other variables")
  for new, old in zip(copy.variables, model.variables, strict=True):
    new.assign(old)
  return copy


def _rebuild(model: keras.Model) -> keras.Model:
  """A model of the same configuration, with other weights."""
  policy, compiled = keras.config.dtype_policy(), model.compiled
  # That of layers whose configuration has none.
  keras.config.set_dtype_policy(model.dtype_policy)
  model.compiled = False  # Keras compiles the copies of some models.
  try:
    if isinstance(model, keras.Sequential) or hasattr(model, "operations"):
      copy = keras.models.clone_model(model, recursive=True)
      if type(copy) is type(model):
        return copy
    copy = type(model).from_config(_config(model))
    if model.built and not copy.built:
      copy.build_from_config(model.get_build_config())
    return copy
  finally:
    model.compiled = compiled
    keras.config.set_dtype_policy(policy)


def _config(model: keras.Model) -> dict[str, Any]:
  """The configuration, without arguments of Keras that the class lacks."""
  parameters = inspect.signature(type(model).__init__).parameters.values()
  if any(each.kind == each.VAR_KEYWORD for each in parameters):
    return model.get_config()
  accepted = {each.name for each in parameters}
  return {
    name: value
    for name, value in model.get_config().items()
    if name in accepted or name not in _KERAS_ARGUMENTS
  }


def _cannot_be_copied(reason: str) -> ValueError:
  return ValueError(
    "`model` must be one that Keras can copy by its configuration, unless "
    f"`in_place` is True: {reason}."
  )


def _counterparts(
  model: keras.Model, copy: keras.Model
) -> dict[int, keras.Variable]:
  """{id of a variable of the model: that of the copy}."""
  pairs = zip(model.variables, copy.variables, strict=True)
  return {id(old): new for old, new in pairs}


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
    for new, old in zip(copy.variables, optimizer.variables, strict=True):
      new.assign(old)
  return copy


def _new_metric(metric: Any) -> Any:
  """A metric without the state of the given one; others as they are."""
  if isinstance(metric, keras.metrics.Metric):
    return type(metric).from_config(metric.get_config())
  return metric
