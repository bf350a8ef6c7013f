# SPDX-License-Identifier: Apache-2.0
"""Layers of any TensorFlow model, found in the graph of its forward pass.

The model only has to be callable. Whatever multiplies the examples with a
variable is a layer, in the order in which the forward pass does it: inside of
functions, loaded models, branches and loops too.

* A kernel that is used several times is one layer; all its uses count.
* A loop counts once per iteration, if their number does not depend on the
  examples.
* Of the branches of a condition the one with the most multiplications counts,
  unless the condition is the same for all examples. Kernels of the other
  branches are layers that are never applied.
* A kernel may be computed: `w * mask`, `tf.cast(w)`. What is computed from
  variables alone is done once, and does not count per example.
* Products of activations with each other, as in attention, and with constants
  have no kernel and do not count.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from rigl.counting.graphs.labels import Use, Weights
from rigl.counting.graphs.reader import Reader
from rigl.counting.specs import (
  ELEMENTWISE_KINDS,
  LayerSpec,
  layer_name,
)
from rigl.types import Tensor

_IMAGES = ("conv2d", "depthwise_conv2d")


def find_layers(
  model: Callable[[Tensor], Any],
  input_shape: Any,
  dtype: Any = tf.float32,
  names: Mapping[str, str] | None = None,
  ignore: Collection[str] = (),
) -> list[LayerSpec]:
  """Finds the layers of a model in the graph of its forward pass.

  A bias, batch normalization or activation belongs to the layer whose outputs
  it is applied to. If these are a sum of several layers' outputs, it belongs to
  the last one of them, so that it counts once.

  Args:
    model: maps a batch of examples to any result; called once, in a graph.
    input_shape: shape of one example, or a list, tuple or dict of shapes for a
      model of several inputs, which is called with the same structure.
    dtype: type of the examples, or a structure of types as of `input_shape`.
    names: names of layers by the names of their kernel variables. Other layers
      are called by their variables, without `/weights` and the like. Further
      layers of one name get a number.
    ignore: names of layers or variables that are not to be counted.

  Returns:
    One spec per layer, with the image sizes of this input.

  Raises:
    ValueError: if there is no layer, a size is not known, or an operation with
      a trainable variable of at least two dimensions is not understood.
  """
  function = trace(model, specs_of(input_shape, dtype))
  found = kernels_of(function, names=names, ignore=ignore)
  return [spec for spec, _ in found]


def trace(
  model: Callable[[Any], Any], inputs: Any
) -> tf.types.experimental.ConcreteFunction:
  """The graph of one call of a model with inputs of given specs."""
  return tf.function(model, autograph=False).get_concrete_function(inputs)


def specs_of(shape: Any, dtype: Any = tf.float32, batch: int | None = 1) -> Any:
  """Tensor specs of a batch, given shapes of an example.

  Args:
    shape: the shape of an input, or a list or dict of shapes.
    dtype: the type of all inputs, or types in the structure of `shape`.
    batch: number of examples; None leaves it open.

  Raises:
    ValueError: if `shape` is something else.
  """
  if _is_shape(shape):
    return tf.TensorSpec([batch, *shape], dtype)
  if isinstance(shape, Mapping):
    return {
      key: specs_of(one, _part(dtype, key), batch) for key, one in shape.items()
    }
  if isinstance(shape, (list, tuple)):
    return type(shape)(
      specs_of(one, _part(dtype, index), batch)
      for index, one in enumerate(shape)
    )
  raise ValueError(
    "`input_shape` must be the shape of an example, or a list or dict of "
    f"shapes, got {shape!r}."
  )


def kernels_of(
  function: tf.types.experimental.ConcreteFunction,
  *,
  names: Mapping[str, str] | None = None,
  names_of: Mapping[int, str] | None = None,
  only: Collection[int] | None = None,
  ignore: Collection[str] = (),
  batch: int = 1,
) -> list[tuple[LayerSpec, Any]]:
  """Finds the layers of a traced model, each with its variable.

  Args:
    function: what `trace` returns.
    names: names of layers by the names of their kernel variables.
    names_of: names of layers by the identities of their kernel variables.
    only: identities of the kernel variables to count; None for all.
    ignore: names of layers or variables that are not to be counted.
    batch: number of examples in the inputs.

  Returns:
    One spec per layer, for one example, and its variable. The variable is None
    in a loaded SavedModel that does not name it.

  Raises:
    ValueError: as `find_layers` does.
  """
  variables = {id(v.handle): v for v in function.graph.variables}
  reader = Reader(function, variables)
  ignored = {layer_name(name) for name in ignore}
  by_variable: dict[int, list[Use]] = {}
  for use in reader.uses:
    by_variable.setdefault(use.weights, []).append(use)
  found: list[tuple[LayerSpec, Any]] = []
  for index, uses in by_variable.items():
    weights = reader.variables[index] if index >= 0 else None
    source = id(weights.source) if weights else None
    if only is not None and source not in only:
      continue
    name = _name(weights, names or {}, names_of or {}, uses)
    if ignored & {name, layer_name(weights.name if weights else name)}:
      continue
    _check(name, uses, weights)
    taken = {spec.name for spec, _ in found}
    spec = _spec(_unique(name, taken), uses, weights, batch)
    found.append((spec, weights.source if weights else None))
  if not found:
    raise ValueError("`model` must have a layer with a kernel, got none.")
  return found


def _name(
  weights: Weights | None,
  names: Mapping[str, str],
  names_of: Mapping[int, str],
  uses: Sequence[Use],
) -> str:
  if weights is None:
    return uses[0].operation.type
  known = names_of.get(id(weights.source)) or names.get(weights.name)
  return known or layer_name(weights.name)


def _unique(name: str, taken: Collection[str]) -> str:
  """The name, with a number if another layer has it."""
  number, result = 0, name
  while result in taken:
    number += 1
    result = f"{name}_{number}"
  return result


def _check(name: str, uses: Sequence[Use], weights: Weights | None) -> None:
  """Raises a ValueError if a use cannot be counted."""
  for use in uses:
    if use.problem == "has an unknown size":
      sizes = [str(t.shape) for t in use.operation.inputs]
      raise ValueError(
        f"`input_size` must be known where layers are applied, but {name!r} is "
        f"applied to sizes {' and '.join(sizes)}."
      )
    if use.problem or weights is None or weights.shape is None:
      problem = use.problem or "has a kernel of unknown size"
      raise ValueError(
        f"`model` must use variables in ways that can be counted, got {name!r} "
        f"in the operation {_original(use.operation)!r} of type "
        f"{use.operation.type}, which {problem}. Give it to `ignore` to leave "
        "it out."
      )


def _spec(
  name: str, uses: Sequence[Use], weights: Weights | None, batch: int
) -> LayerSpec:
  """The layer of a variable with all its uses."""
  assert weights is not None and weights.shape is not None
  counted = [use for use in uses if use.kind != "embedding"]
  kernels = [use for use in counted if use.kind not in ELEMENTWISE_KINDS]
  main = [*kernels, *counted, *uses][0]
  multiplications = sum(use.multiplications or 0 for use in counted)
  results = _ratio(sum(use.results or 0 for use in counted), batch)
  settings: dict[str, Any] = {
    "activation": next((u.activation for u in uses if u.activation), None),
    "use_bias": any(use.use_bias for use in uses),
  }
  kind, shape = main.kind, main.shape or weights.shape
  applications = _ratio(multiplications, math.prod(shape) * batch)
  if kind == "dense" and 0 < results == applications * shape[0]:
    shape = shape[::-1]
  if kind in _IMAGES and len(uses) == 1:
    image = _image_spec(name, main.operation, shape, settings)
    if image and (image.applications, image.results) == (applications, results):
      return image
  spec = LayerSpec(
    name, kind, shape, **settings, total_applications=applications
  )
  if spec.results == results:
    is_simple = kind == "dense" and applications == 1
    return replace(spec, total_applications=None) if is_simple else spec
  if not (kind.endswith("transpose") or kind in ELEMENTWISE_KINDS):
    spec = replace(spec, kind="einsum")
  return replace(spec, total_results=results)


def _original(operation: tf.Operation) -> str:
  """Name of an operation in the model, without that of the copied part."""
  return operation.name.partition("/")[2]


def _ratio(number: float, parts: int) -> float:
  """A quotient, as an integer if it is one."""
  return number / parts if number % parts else int(number // parts)


def _image_spec(
  name: str,
  operation: tf.Operation,
  kernel: tuple[int, ...],
  settings: Mapping[str, Any],
) -> LayerSpec | None:
  """A convolution of images; None if its sizes do not explain it."""
  if operation.type not in ("Conv2D", "DepthwiseConv2dNative"):
    return None
  data_format = operation.get_attr("data_format").decode()
  height, width = data_format.index("H"), data_format.index("W")
  strides = operation.get_attr("strides")
  image = operation.inputs[0].shape
  # Zeros before and after, in each dimension; empty if not explicit.
  zeros = operation.get_attr("explicit_paddings") or [0] * 8
  sizes = [image[i] + sum(zeros[2 * i :][:2]) for i in (height, width)]
  # A window of one pixel needs no zeros.
  is_same = operation.get_attr("padding") == b"SAME" or kernel[:2] == (1, 1)
  padding = "same" if is_same else "valid"
  steps = (strides[height], strides[width])
  result = operation.outputs[0].shape
  return LayerSpec(
    name,
    "conv2d" if operation.type == "Conv2D" else "depthwise_conv2d",
    kernel,
    sizes,
    steps,
    padding,
    **settings,
    output_size=(result[height], result[width]),
  )


def _is_shape(value: Any) -> bool:
  if isinstance(value, tf.TensorShape):
    return True
  return isinstance(value, (list, tuple)) and all(
    size is None or isinstance(size, numbers.Integral) for size in value
  )


def _part(structure: Any, key: Any) -> Any:
  """The part of a structure of types; one type is for all."""
  if isinstance(structure, (Mapping, list, tuple)):
    return structure[key]
  return structure
