# SPDX-License-Identifier: Apache-2.0
"""Kernels and masks that a caller gives: their names, and what is allowed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.checks import check_mapping, describe
from rigl.sparse_optimizers.sparse_layer import (
  BlockLayer,
  CompactLayer,
  bare_name,
)
from rigl.types import Tensor, Variable

_DTYPES = (tf.float32, tf.float64, tf.bfloat16, tf.float16)


def as_variable(value: Any) -> Variable:
  """The `tf.Variable` of a variable of TensorFlow or Keras.

  Args:
    value: a `tf.Variable`; a Keras 3 variable on TensorFlow, whose `value` is
      one; or a layer that stores only its active connections, whose `values`
      are one.

  Raises:
    ValueError: if it is none of these.
  """
  if isinstance(value, tf.Variable):
    return value
  if isinstance(value, CompactLayer | BlockLayer):
    return value.values
  inside = getattr(value, "value", None)
  if isinstance(inside, tf.Variable):
    return inside
  raise ValueError(
    "Kernels must be variables of TensorFlow, or of Keras on the TensorFlow "
    f"backend, got {describe(value)}."
  )


def unwrapped(variables: Any) -> list[Any]:
  """A list with the `tf.Variable`s of Keras variables; others as they are."""
  found = []
  for each in tf.nest.flatten(variables):
    inside = getattr(each, "value", None)
    found.append(inside if isinstance(inside, tf.Variable) else each)
  return found


def name_layers(
  kernels: Mapping[str, Variable] | Sequence[Variable],
) -> dict[str, Variable]:
  """Names layers: `layer1/weights:0` belongs to `layer1`.

  Args:
    kernels: variables, or a mapping that names them already. Variables of
      Keras 3 are named by their paths.

  Returns:
    {layer name: `tf.Variable`}.

  Raises:
    ValueError: if two kernels would have the same layer name, if one kernel
      has two names, if there is no kernel, or if one cannot be sparse.
  """
  named: dict[str, Variable] = {}
  if isinstance(kernels, Mapping):
    for name, kernel in kernels.items():
      if not isinstance(name, str) or not name:
        raise ValueError(f"`kernels` must have names, got {name!r}.")
      named[name] = as_variable(kernel)
  else:
    if (
      isinstance(kernels, tf.Variable)
      or not isinstance(kernels, Iterable)
      or isinstance(kernels, Iterator)  # It can be read only once.
    ):
      raise ValueError(
        "`kernels` must be a mapping {layer name: variable} or a sequence of "
        f"variables, got {describe(kernels)}."
      )
    for kernel in kernels:
      variable = as_variable(kernel)
      if isinstance(kernel, CompactLayer | BlockLayer):
        name = kernel.name
      else:
        path = getattr(kernel, "path", None) or bare_name(variable)
        name = path.rsplit("/", 1)[0]
      if name in named and named[name] is not variable:
        raise ValueError(
          f"Two kernels have the layer name {name!r}; give `kernels` as "
          "{name: variable} with unique names."
        )
      if name in named:
        raise ValueError(f"`kernels` holds the kernel of {name!r} twice.")
      named[name] = variable
  if not named:
    raise ValueError("`kernels` must hold at least one variable, got none.")
  _check_kernels(named)
  return named


def layer_shapes(
  kernels: Mapping[str, Variable] | Sequence[Variable],
) -> dict[str, tuple[int, ...]]:
  """The shapes of whole kernels, active and inactive connections.

  Args:
    kernels: as for `name_layers`, which also names what is raised.

  Returns:
    {layer name: shape}.
  """
  layers = compact_layers(kernels) | block_layers(kernels)
  return {
    name: tuple(layers.get(id(kernel), kernel).shape)
    for name, kernel in name_layers(kernels).items()
  }


def compact_layers(
  kernels: Mapping[str, Any] | Sequence[Any],
) -> dict[int, CompactLayer]:
  """The layers that store only their active connections, among kernels.

  Args:
    kernels: as for `name_layers`.

  Returns:
    {id of the layer's values: layer}.
  """
  return _layers_of(kernels, CompactLayer)


def block_layers(
  kernels: Mapping[str, Any] | Sequence[Any],
) -> dict[int, BlockLayer]:
  """The layers that store only their active blocks, among kernels.

  Args:
    kernels: as for `name_layers`.

  Returns:
    {id of the layer's values: layer}.
  """
  return _layers_of(kernels, BlockLayer)


def _layers_of(
  kernels: Mapping[str, Any] | Sequence[Any], kind: Any
) -> dict[int, Any]:
  given = kernels.values() if isinstance(kernels, Mapping) else kernels
  return {id(each.values): each for each in given if isinstance(each, kind)}


def _check_kernels(kernels: Mapping[str, Variable]) -> None:
  first: dict[int, str] = {}
  for name, kernel in kernels.items():
    other = first.setdefault(id(kernel), name)
    if other != name:
      raise ValueError(
        f"`kernels` holds one variable under two names, {other!r} and "
        f"{name!r}. Layers that share a kernel share its mask: name it once."
      )
    if kernel.dtype._is_ref_dtype:
      raise ValueError(
        f"The kernel of {name!r} is a reference variable of TensorFlow 1: call "
        "tf.compat.v1.enable_resource_variables() before creating variables, "
        "after disable_v2_behavior()."
      )
    if kernel.dtype not in _DTYPES:
      raise ValueError(
        f"The kernel of {name!r} must be float32, float64, bfloat16 or "
        f"float16, got {kernel.dtype.name}."
      )
    if not kernel.shape.is_fully_defined() or not kernel.shape.num_elements():
      raise ValueError(
        f"The kernel of {name!r} must have a static shape with at least one "
        f"weight, got {kernel.shape}."
      )
    if not kernel.shape.rank:
      raise ValueError(f"The kernel of {name!r} must not be a scalar.")


def check_masks(
  kernels: Mapping[str, Variable], masks: Mapping[str, Tensor]
) -> None:
  """Raises ValueError unless every kernel has a mask of its shape.

  Args:
    kernels: {layer name: kernel}.
    masks: {layer name: array or tensor of bools or numbers}.
  """
  check_mapping("masks", masks, "{layer name: array}")
  if set(masks) != set(kernels):
    raise ValueError(
      f"`masks` must have the names {sorted(kernels)}, got "
      f"{sorted(map(str, masks))}."
    )
  for name, kernel in kernels.items():
    expected = tuple(kernel.shape)
    try:
      shape = tuple(np.shape(masks[name]))
    except ValueError:
      raise ValueError(f"The mask of {name!r} must be an array.") from None
    if shape != expected:
      raise ValueError(
        f"The mask of {name!r} must have the shape {expected}, got {shape}."
      )
    dtype = tf.as_dtype(getattr(masks[name], "dtype", tf.bool))
    if not (dtype.is_bool or dtype.is_integer or dtype.is_floating):
      raise ValueError(
        f"The mask of {name!r} must hold bools or numbers, got {dtype.name}."
      )


def scope_of(
  kernels: Iterable[Variable],
) -> contextlib.AbstractContextManager[Any]:
  """The scope of the strategy that kernels were created in, if it was left."""
  if not tf.distribute.has_strategy():
    for kernel in kernels:
      strategy = getattr(kernel, "distribute_strategy", None)
      if isinstance(strategy, tf.distribute.Strategy):
        return strategy.scope()
  return contextlib.nullcontext()


def initial_value(kernel: Variable) -> Tensor:
  """The weights that a kernel has now, or gets by its initializer.

  In a graph for a session, where variables have no value yet, it is the value
  of the initializer.
  """
  if tf.executing_eagerly():
    return kernel.read_value()
  value = kernel.initial_value
  return kernel.read_value() if value is None else tf.convert_to_tensor(value)


def mask_initial_value(kernel: Variable, mask: Tensor) -> None:
  """Makes the initializer of a kernel mask it, in a graph for a session.

  Args:
    kernel: the kernel.
    mask: bool tensor of its shape.
  """
  for copy in getattr(kernel, "values", [kernel]):  # Of each replica.
    with tf.control_dependencies([copy.initializer]):
      value = copy.read_value()
      masked = copy.assign(tf.where(mask, value, tf.zeros_like(value)))
    # What `tf.compat.v1.train.init_from_checkpoint` replaces as well.
    copy._initializer_op = tf.group(masked)
