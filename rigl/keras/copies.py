# SPDX-License-Identifier: Apache-2.0
"""Copies of models, in which some layers may be replaced by others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras

# What Keras adds to the configuration of every model.
_KERAS_ARGUMENTS = ("name", "trainable", "dtype")
# Attributes in which Keras and TensorFlow keep the layers of a layer.
_OF_KERAS = (
  "_layers",
  "_tracker",
  "_metrics",
  "_self_unconditional_dependency_names",
)

# {id of a layer: the new layer that takes its place, not built yet}.
Replacements = Mapping[int, keras.layers.Layer]


def copy_model(
  model: keras.Model, replacements: Replacements | None = None
) -> tuple[keras.Model, dict[int, keras.Variable]]:
  """Copies a model of any kind; the model itself is not changed.

  Args:
    model: a built model that its configuration describes.
    replacements: layers to replace, also in nested models and layers, where
      they are attributes or in lists, tuples and dictionaries.

  Returns:
    The copy, not compiled, with the weights of the model in all layers that are
    not replaced; and {id of a variable of the model: that of the copy} for
    these layers.

  Raises:
    ValueError: if the model cannot be copied, or a layer not be replaced.
  """
  replacements = dict(replacements or {})
  try:
    copy = _rebuild(model, replacements)
  except Exception as error:  # Whatever the classes of the model raise.
    raise ValueError(f"{type(error).__name__}: {error}") from error
  layers, new_layers = _layers(model), _layers(copy)
  inside = {id(layer) for layer in new_layers}
  for layer in layers:
    new = replacements.get(id(layer))
    if new is not None and not (id(new) in inside and new.built):
      raise ValueError(
        f"the layer {layer.path!r} cannot be replaced: it is no attribute of "
        "the layer or model that uses it"
      )
  old = _variables(model, [la for la in layers if id(la) in replacements])
  mine = _variables(copy, list(replacements.values()))
  if [v.shape for v in old] != [v.shape for v in mine]:
    raise ValueError("its configuration gives other variables")
  if len(layers) == len(new_layers):
    for layer, new in zip(layers, new_layers, strict=True):
      if layer.trainable != new.trainable:
        new.trainable = layer.trainable
  for source, target in zip(old, mine, strict=True):
    target.assign(source)
  return copy, {id(a): b for a, b in zip(old, mine, strict=True)}


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
  """All layers, those that hold others first; each once."""
  found = {id(layer): layer for layer in model._flatten_layers()}
  return list(found.values())


def _variables(
  model: keras.Model, without: list[keras.layers.Layer]
) -> list[keras.Variable]:
  """The variables of a model, without those of some layers."""
  left_out = {id(v) for layer in without for v in layer.variables}
  return [v for v in model.variables if id(v) not in left_out]


def _rebuild(
  model: keras.Model, replacements: dict[int, keras.layers.Layer]
) -> keras.Model:
  """A model of the same configuration, with other weights."""
  policy = keras.config.dtype_policy()
  # That of layers whose configuration has none.
  keras.config.set_dtype_policy(model.dtype_policy)
  try:
    copy = _Copier(replacements).copy(model)
    if model.built and not copy.built:
      copy.build_from_config(model.get_build_config())
      copy.built = True  # As Keras does; `copy_model` compares the variables.
    return copy
  finally:
    keras.config.set_dtype_policy(policy)


class _Copier:
  """Copies layers by their configuration, each once, and replaces some.

  Args:
    replacements: what takes the place of other layers.
  """

  def __init__(self, replacements: dict[int, keras.layers.Layer]) -> None:
    self._replacements = replacements
    self._copies = dict(replacements)

  def copy(self, layer: keras.layers.Layer) -> keras.layers.Layer:
    """The copy of a layer, or what replaces it; a graph is built already."""
    if id(layer) not in self._copies:
      self._copies[id(layer)] = self._new_copy(layer)
    return self._copies[id(layer)]

  def _new_copy(self, layer: keras.layers.Layer) -> keras.layers.Layer:
    if not isinstance(layer, keras.layers.Layer):  # An operation of a graph.
      return type(layer).from_config(layer.get_config())
    replaces = self._replaces_inside(layer)
    if isinstance(layer, keras.Sequential) or hasattr(layer, "operations"):
      graph = self._copy_of_graph(layer)
      if type(graph) is type(layer):
        return graph
      if replaces:
        raise ValueError(
          f"{type(layer).__name__} has a graph of its own, in which no layer "
          "can be replaced."
        )
    new = type(layer).from_config(_config(layer))
    if new.name != layer.name:
      new.name = layer.name
    if replaces:
      self._replace_inside(layer, new)
    return new

  def _copy_of_graph(self, model: keras.Model) -> keras.Model:
    compiled = model.compiled
    model.compiled = False  # Keras compiles the copies of some models.
    try:
      return keras.models.clone_model(model, clone_function=self.copy)
    finally:
      model.compiled = compiled

  def _replaces_inside(self, layer: keras.layers.Layer) -> bool:
    inner = layer._flatten_layers(include_self=False)
    return any(id(each) in self._replacements for each in inner)

  def _replace_inside(
    self, old: keras.layers.Layer, new: keras.layers.Layer
  ) -> None:
    """Replaces layers among the attributes of a copy that is not built."""
    before, swapped = list(new._layers), {}

    def replace(mine: Any, copied: Any) -> Any:
      """What takes the place of a value of the copy."""
      if isinstance(mine, keras.layers.Layer):
        has_graph = isinstance(mine, keras.Sequential) or hasattr(
          mine, "operations"
        )
        if id(mine) in self._replacements or (
          has_graph and self._replaces_inside(mine)
        ):
          swapped[id(copied)] = self.copy(mine)
          return swapped[id(copied)]
        if self._replaces_inside(mine) and id(mine) not in self._copies:
          self._copies[id(mine)] = copied
          self._replace_inside(mine, copied)
        return copied
      if isinstance(mine, dict):
        changed = {key: replace(v, copied[key]) for key, v in mine.items()}
        is_same = all(changed[key] is copied[key] for key in mine)
        return copied if is_same else changed
      if isinstance(mine, list | tuple):
        pairs = list(zip(mine, copied, strict=True))
        items = [replace(*pair) for pair in pairs]
        if all(a is b for a, (_, b) in zip(items, pairs, strict=True)):
          return copied
        return items if isinstance(mine, list) else tuple(items)
      return copied

    for name, value, copied in list(_attributes(old, new)):
      replaced = replace(value, copied)
      if replaced is not copied:
        setattr(new, name, replaced)
    # In the order of before, in which Keras lists the weights.
    ordered = {id(la): la for la in (swapped.get(id(b), b) for b in before)}
    ordered |= {id(la): la for la in new._layers if id(la) not in swapped}
    new._layers[:] = list(ordered.values())


def _attributes(
  old: keras.layers.Layer, new: keras.layers.Layer
) -> Iterator[tuple[str, Any, Any]]:
  """Attributes that hold layers, or may: name, value, that of the copy."""
  others = vars(new)
  for name, value in vars(old).items():
    if name not in _OF_KERAS and name in others and _holds_layers(value):
      yield name, value, others[name]


def _holds_layers(value: Any) -> bool:
  if isinstance(value, dict):
    return any(_holds_layers(each) for each in value.values())
  if isinstance(value, list | tuple):
    return any(_holds_layers(each) for each in value)
  return isinstance(value, keras.layers.Layer)


def _config(layer: keras.layers.Layer) -> dict[str, Any]:
  """The configuration, without arguments of Keras that the class lacks."""
  config = layer.get_config()
  if not isinstance(layer, keras.Model):
    return config
  parameters = inspect.signature(type(layer).__init__).parameters.values()
  if any(each.kind == each.VAR_KEYWORD for each in parameters):
    return config
  accepted = {each.name for each in parameters}
  return {
    name: value
    for name, value in config.items()
    if name in accepted or name not in _KERAS_ARGUMENTS
  }
