# SPDX-License-Identifier: Apache-2.0
"""Layers of a Keras model, found by the attributes of its objects.

Neither Keras nor TensorFlow is imported for it. Keras 2, Keras 3 and models
with a method `layer_specs` are distinguished by their attributes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rigl.counting.costs import KNOWN_ACTIVATIONS
from rigl.counting.specs import LayerSpec

_CLASSES = {
  "Conv2D": "conv2d",
  "DepthwiseConv2D": "depthwise_conv2d",
  "Dense": "dense",
}
_DEPTHWISE_KERNEL = "depthwise_kernel"


def find_layers(
  source: Any, input_shape: Sequence[int | None] | None = None
) -> list[LayerSpec]:
  """Finds the layers of a model or a list.

  Args:
    source: a model with a method `layer_specs`, a Keras model, or a list of
      `LayerSpec`s and Keras layers. Keras layers must have been built and
      called by a model; layers without a kernel are skipped. Each one counts
      with a bias (its own or that of a batch normalization), and one without
      an activation function counts with a ReLU.

    input_shape: shape of one example, for any other TensorFlow model: the
      source is then a function of a batch of examples, and its layers are
      found in the graph of one call.

  Returns:
    A list of at least one spec; names are unique.

  Raises:
    ValueError: if the source has no layers, two layers of the same name, or a
      kernel outside of `Conv2D`, `DepthwiseConv2D` and `Dense` layers.
  """
  if input_shape is not None:
    from rigl.counting import graph_layers  # It needs TensorFlow.

    specs = graph_layers.find_layers(source, input_shape)
  elif hasattr(source, "layer_specs"):
    specs = list(source.layer_specs())
  elif hasattr(source, "layers") or isinstance(source, Iterable):
    specs = [spec for layer in _flat(source) for spec in _specs_of(layer)]
  else:
    raise ValueError(
      "`layers` must be a list of layers, a Keras model or a model with a "
      f"method `layer_specs`, or come with an `input_shape`, got {source!r}."
    )
  if not specs:
    raise ValueError("`layers` must have a layer with a kernel, got none.")
  names = [spec.name for spec in specs]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(f"`layers` must have different names, got {twice} twice.")
  return specs


def _flat(source: Any) -> list[Any]:
  """All layers of a model, including those of nested models."""
  layers = source.layers if hasattr(source, "layers") else source
  result = []
  for layer in layers:
    nested = not isinstance(layer, LayerSpec) and hasattr(layer, "layers")
    result += _flat(layer) if nested else [layer]
  return result


def _specs_of(layer: Any) -> list[LayerSpec]:
  if isinstance(layer, LayerSpec):
    return [layer]
  if not hasattr(layer, "kernel") and not hasattr(layer, _DEPTHWISE_KERNEL):
    if any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ())):
      _refuse(layer)
    return []
  # A subclass, in Keras 2 or 3, has the kind of its nearest ancestor.
  kinds = (_CLASSES.get(cls.__name__) for cls in type(layer).__mro__)
  kind = next((kind for kind in kinds if kind), None)
  # Not every Keras subclass of these classes can be counted like them.
  if kind is None or type(layer).__name__ in ("Conv2DTranspose",):
    _refuse(layer)
  if kind == "dense":
    return [_dense_spec(layer)]
  return [_convolution_spec(layer, str(kind))]


def _refuse(layer: Any) -> None:
  raise ValueError(
    f"`layers` must have kernels in layers of {sorted(_CLASSES)} only, got "
    f"{type(layer).__name__} {getattr(layer, 'name', '')!r}."
  )


def _dense_spec(layer: Any) -> LayerSpec:
  *vectors, _ = _image_shape(layer, "output")
  return LayerSpec(
    layer.name,
    "dense",
    tuple(layer.kernel.shape),
    activation=_activation(layer),
    output_size=math.prod(vectors),
  )


def _convolution_spec(layer: Any, kind: str) -> LayerSpec:
  kernel = getattr(layer, _DEPTHWISE_KERNEL, None)
  first = getattr(layer, "data_format", None) == "channels_first"
  place = slice(-2, None) if first else slice(-3, -1)
  return LayerSpec(
    layer.name,
    kind,
    tuple((layer.kernel if kernel is None else kernel).shape),
    _image_shape(layer, "input")[place],
    tuple(layer.strides),
    layer.padding,
    _activation(layer),
    output_size=_image_shape(layer, "output")[place],
  )


def _image_shape(layer: Any, which: str) -> tuple[int, ...]:
  """Shape of a layer's input or output, without the batch."""
  try:
    # Keras 3 has tensors only, Keras 2 also their shapes.
    shape = getattr(layer, f"{which}_shape", None)
    if shape is None:
      shape = getattr(layer, which).shape
  except (AttributeError, ValueError, RuntimeError):
    shape = ()
  sizes = tuple(shape)[1:]
  if not sizes or any(size is None for size in sizes):
    raise ValueError(
      f"`layers` must be in one model of known sizes, got {layer.name!r} with "
      f"the {which} {tuple(shape)}."
    )
  return sizes


def _activation(layer: Any) -> str | None:
  """Activation of a layer; one without an activation counts with a ReLU."""
  function = getattr(layer, "activation", None)
  name = getattr(function, "__name__", None)
  name = {"silu": "swish", "linear": "relu", None: "relu"}.get(name, name)
  return name if name in KNOWN_ACTIVATIONS else None
