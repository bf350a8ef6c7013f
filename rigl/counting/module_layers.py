# SPDX-License-Identifier: Apache-2.0
"""Layers of a model or a list, whatever it is made of.

TensorFlow is imported only for models that need it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from rigl.counting.specs import LayerSpec


def find_layers(
  source: Any, input_shape: Any = None, ignore: Collection[str] = ()
) -> list[LayerSpec]:
  """Finds the layers of a model or a list.

  Args:
    source: a model with a method `layer_specs`, a Keras model, or a list of
      `LayerSpec`s and Keras layers, which one model has called. With an
      `input_shape` it may be any function of a batch of examples.
    input_shape: shape of one example, or a list or dict of shapes for several
      inputs. A Keras model without open sizes needs none.
    ignore: names of layers or variables that are not to be counted.

  Returns:
    A list of at least one spec; names are unique. `graph_layers` says what
    counts.

  Raises:
    ValueError: if the source has no layers, two layers of the same name, open
      sizes, or an operation with a trainable variable of at least two
      dimensions that cannot be counted.
  """
  if isinstance(source, LayerSpec):
    source = [source]
  if hasattr(source, "layer_specs"):
    specs = list(source.layer_specs())
  elif isinstance(source, Iterable) and not hasattr(source, "layers"):
    specs = _of_list(list(source))
  else:
    specs = _of_model(source, input_shape, ignore)
  if not specs:
    raise ValueError("`layers` must have a layer with a kernel, got none.")
  names = [spec.name for spec in specs]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(f"`layers` must have different names, got {twice} twice.")
  return specs


def _of_model(
  source: Any, input_shape: Any, ignore: Collection[str]
) -> list[LayerSpec]:
  """Layers of a Keras model or of another function."""
  is_model = hasattr(source, "weights") and hasattr(source, "call")
  if not is_model and (input_shape is None or not callable(source)):
    raise ValueError(
      "`layers` must be a list of layers, a Keras model or a model with a "
      f"method `layer_specs`, or come with an `input_shape`, got {source!r}."
    )
  from rigl.counting import graph_layers, keras_layers  # With TensorFlow.

  if keras_layers.is_keras(source):
    return keras_layers.find_layers(source, input_shape, ignore)
  return graph_layers.find_layers(source, input_shape, ignore=ignore)


def _of_list(layers: list[Any]) -> list[LayerSpec]:
  """Layers of a list; those of Keras are in the order of their model."""
  others = [layer for layer in layers if not isinstance(layer, LayerSpec)]
  if not others:
    return layers
  from rigl.counting import keras_layers  # With TensorFlow.

  strange = [n for n in others if not keras_layers.is_keras(n)]
  if strange:
    raise ValueError(
      f"`layers` must be a list of `LayerSpec`s or Keras layers, got "
      f"{strange[0]!r}."
    )
  found = keras_layers.layers_of_list(others)
  place = next(i for i, n in enumerate(layers) if n is others[0])
  after = [n for n in layers[place:] if isinstance(n, LayerSpec)]
  return [*layers[:place], *found, *after]
