# SPDX-License-Identifier: Apache-2.0
"""Layers of Keras models, found in the graph of one call.

Keras itself is not imported: Keras 2 and Keras 3 are told apart by what their
objects have.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from rigl.counting import graph_layers
from rigl.counting.specs import LayerSpec, layer_name

_PACKAGES = ("keras", "tf_keras")


def is_keras(source: Any) -> bool:
  """Whether an object is a Keras layer or model."""
  return any(
    cls.__name__ == "Layer" and cls.__module__.split(".")[0] in _PACKAGES
    for cls in type(source).__mro__
  )


def _keras_of(layer: Any) -> Any:
  """The package that a layer is of."""
  return next(
    sys.modules[cls.__module__.split(".")[0]]
    for cls in type(layer).__mro__
    if cls.__name__ == "Layer"
  )


def find_layers(
  model: Any, input_shape: Any = None, ignore: Collection[str] = ()
) -> list[LayerSpec]:
  """Finds the layers of a Keras model.

  Args:
    model: a model, of any kind, or a layer that a model has called.
    input_shape: shape of one example, or a structure of shapes as of the
      model's inputs; None for the model's own.
    ignore: names of layers or variables that are not to be counted.

  Returns:
    One spec per kernel, called by its layer.

  Raises:
    ValueError: if sizes are open or unknown, or a layer cannot be counted.
  """
  return [spec for spec, _ in find_kernels(model, input_shape, ignore)]


def find_kernels(
  model: Any, input_shape: Any = None, ignore: Collection[str] = ()
) -> list[tuple[LayerSpec, Any]]:
  """Finds the layers of a Keras model, each with its TensorFlow variable.

  The arguments are those of `find_layers`.

  Raises:
    ValueError: as `find_layers` does.
  """
  inputs = _inputs_of(model)
  if input_shape is not None:
    inputs = _of_shape(inputs, input_shape)
  elif inputs is None:
    raise ValueError(
      "`layers` must be in one model of known sizes or come with an "
      f"`input_shape`, got {model.name!r}, which was never called."
    )
  return _read(model, inputs, [model], None, ignore)


def layers_of_list(layers: Sequence[Any]) -> list[LayerSpec]:
  """Finds the layers among Keras layers, all of which one model has called.

  What follows a layer in the model, but is not in the list, does not count.

  Raises:
    ValueError: if a layer is in no model, or sizes are open.
  """
  outputs = []
  for layer in layers:
    try:
      tensors = tf.nest.flatten(layer.output)
    except (AttributeError, ValueError, RuntimeError) as error:
      raise ValueError(
        "`layers` must be in one model of known sizes, got "
        f"{layer.name!r}, which no model has called."
      ) from error
    outputs += tensors
  inputs = _sources(outputs)
  model = _keras_of(layers[0]).Model(inputs, outputs)
  only = {id(v) for layer in layers for v in _variables(layer)}
  specs = [_spec_of(tensor) for tensor in inputs]
  return [spec for spec, _ in _read(model, specs, layers, only, ())]


def is_open(model: Any) -> bool:
  """Whether a model leaves sizes of its examples open."""
  inputs = _inputs_of(model)
  return inputs is None or _is_open(inputs)


def filled_shape(model: Any, size: int) -> Any:
  """The shapes of a model's examples, with a size where they are open.

  Args:
    model: a Keras model.
    size: what open dimensions get, at least 1.

  Raises:
    ValueError: if the model does not know its inputs.
  """
  inputs = _inputs_of(model)
  if inputs is None:
    raise ValueError("`model` must know its inputs, got one that does not.")
  return tf.nest.map_structure(
    lambda n: tf.TensorShape([s or size for s in n.shape.as_list()[1:]]), inputs
  )


def _read(
  model: Any,
  inputs: Any,
  layers: Sequence[Any],
  only: Collection[int] | None,
  ignore: Collection[str],
) -> list[tuple[LayerSpec, Any]]:
  """Reads a model that is called with inputs of given specs."""
  backend = _keras_of(model).backend
  name = backend.backend() if hasattr(backend, "backend") else "tensorflow"
  if name != "tensorflow":
    raise ValueError(
      "`layers` must be a model of Keras on TensorFlow (KERAS_BACKEND="
      f"tensorflow), got one on {name}."
    )
  sizes = {spec.shape[0] for spec in tf.nest.flatten(inputs)} - {None}
  batch = min(sizes, default=1)  # Some models have a fixed batch.
  specs = tf.nest.map_structure(
    lambda n: tf.TensorSpec([n.shape[0] or batch, *n.shape[1:]], n.dtype),
    inputs,
  )
  parameters = inspect.signature(model.call).parameters
  settings = {"training": False} if "training" in parameters else {}
  try:
    function = graph_layers.trace(
      lambda values: model(values, **settings), specs
    )
    return graph_layers.kernels_of(
      function, names_of=_names(layers), only=only, ignore=ignore, batch=batch
    )
  except ValueError as error:
    if not _is_open(specs):
      raise
    raise ValueError(
      f"`layers` must be in one model of known sizes: {error} "
      "`find_layers(model, input_shape)` fills open sizes."
    ) from error


def _is_open(specs: Any) -> bool:
  """Whether a size of an example is not known."""
  return any(None in n.shape.as_list()[1:] for n in tf.nest.flatten(specs))


def _inputs_of(model: Any) -> Any:
  """Specs of a model's inputs, or None if it does not know them."""
  for attribute in ("input", "inputs"):
    try:
      tensors = getattr(model, attribute, None)
    except (AttributeError, ValueError, RuntimeError):
      continue
    if tensors is not None and not (isinstance(tensors, list) and not tensors):
      single = isinstance(tensors, list) and len(tensors) == 1
      return tf.nest.map_structure(_spec_of, tensors[0] if single else tensors)
  config: Any = getattr(model, "get_build_config", dict)() or {}
  shape = config.get("input_shape")
  if shape is None:
    return None
  # The batch of the first call is not the model's.
  return _with_shape(shape)


def _spec_of(tensor: Any) -> tf.TensorSpec:
  return tf.TensorSpec(tuple(tensor.shape), tensor.dtype)


def _with_shape(shape: Any) -> Any:
  """Specs of inputs of shapes that include a batch."""
  if isinstance(shape, Mapping):
    return {key: _with_shape(one) for key, one in shape.items()}
  if any(isinstance(one, (list, tuple, Mapping)) for one in shape):
    return [_with_shape(one) for one in shape]
  return tf.TensorSpec([None, *shape[1:]], tf.float32)


def _of_shape(inputs: Any, shape: Any) -> Any:
  """Specs of a model's inputs with given shapes of an example."""
  specs = graph_layers.specs_of(shape, batch=None)
  if inputs is None:
    return specs
  given, known = tf.nest.flatten(specs), tf.nest.flatten(inputs)
  if len(given) != len(known):
    raise ValueError(
      f"`input_shape` must be {len(known)} shapes, one for each input of the "
      f"model, got {shape}."
    )
  for one, own in zip(given, known, strict=True):
    if not own.shape[1:].is_compatible_with(one.shape[1:]):
      raise ValueError(
        f"`input_shape` must fit the model's {tuple(own.shape)[1:]}, got "
        f"{shape}."
      )
  return tf.nest.pack_sequence_as(
    inputs,
    [
      tf.TensorSpec([own.shape[0], *one.shape[1:]], own.dtype)
      for one, own in zip(given, known, strict=True)
    ],
  )


def _sources(tensors: Iterable[Any]) -> list[Any]:
  """The inputs of the model that tensors belong to."""
  todo, seen, found = list(tensors), set(), []
  while todo:
    tensor = todo.pop()
    if id(tensor) in seen:
      continue
    seen.add(id(tensor))
    layer, index, _ = tensor._keras_history
    node = layer._inbound_nodes[index]
    # Keras 3 and Keras 2.
    before = getattr(node, "keras_inputs", None)
    before = tf.nest.flatten(node.input_tensors) if before is None else before
    before = [t for t in before if t is not tensor]
    todo += before
    if not before:
      found.append(tensor)
  return found


def _variables(layer: Any) -> list[Any]:
  """The TensorFlow variables of a layer."""
  return [_variable(weight) for weight in layer.weights]


def _variable(weight: Any) -> Any:
  """The TensorFlow variable of a weight: itself, but in Keras 3."""
  return getattr(weight, "_value", weight) if _is_keras_3(weight) else weight


def _is_keras_3(weight: Any) -> bool:
  return not isinstance(weight, tf.Variable)


def _names(layers: Sequence[Any]) -> dict[int, str]:
  """Names of layers by the identities of their variables.

  A kernel is called by its layer; two of one name by their models as well.
  """
  found: dict[int, tuple[str, str]] = {}
  for layer in layers:
    _add_names(layer, "", found)
  names = [short for short, _ in found.values()]
  return {
    key: long if names.count(short) > 1 else short
    for key, (short, long) in found.items()
  }


def _add_names(
  layer: Any, scope: str, found: dict[int, tuple[str, str]]
) -> None:
  """Notes the names of a layer's variables, without and with its models'."""
  for inner in getattr(layer, "layers", ()):
    _add_names(inner, f"{scope}{inner.name}/", found)
  for weight in layer.weights:
    path = f"/{getattr(weight, 'path', weight.name)}"
    _, has_name, rest = path.partition(f"/{layer.name}/")
    own = layer_name(f"{layer.name}/{rest}" if has_name else layer.name + path)
    # A nested model is no part of the name, unless it has to be.
    models = scope.removesuffix(f"{layer.name}/")
    found.setdefault(id(_variable(weight)), (own, models + own))
