# SPDX-License-Identifier: Apache-2.0
"""Layers of Keras as operations on channels, and their smaller versions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from rigl.compression import operations
from rigl.compression.liveness import Liveness, Node
from rigl.compression.operations import Elementwise

# Functions of each value alone.
_ACTIVATIONS = (
  "celu",
  "elu",
  "exponential",
  "gelu",
  "hard_sigmoid",
  "hard_silu",
  "hard_tanh",
  "leaky_relu",
  "linear",
  "log_sigmoid",
  "mish",
  "relu",
  "relu6",
  "selu",
  "sigmoid",
  "silu",
  "softplus",
  "softsign",
  "tanh",
)
_MAPS = (layers.ReLU, layers.LeakyReLU, layers.ELU)
_IDENTITIES = (
  layers.ActivityRegularization,
  layers.Dropout,
  layers.GaussianDropout,
  layers.GaussianNoise,
  layers.Identity,
  layers.SpatialDropout1D,
  layers.SpatialDropout2D,
  layers.SpatialDropout3D,
)
_WINDOWS = (
  layers.MaxPooling1D,
  layers.MaxPooling2D,
  layers.MaxPooling3D,
  layers.AveragePooling1D,
  layers.AveragePooling2D,
  layers.AveragePooling3D,
  layers.UpSampling1D,
  layers.UpSampling2D,
  layers.UpSampling3D,
  layers.Cropping1D,
  layers.Cropping2D,
  layers.Cropping3D,
)
_GLOBAL = (
  layers.GlobalAveragePooling1D,
  layers.GlobalAveragePooling2D,
  layers.GlobalAveragePooling3D,
  layers.GlobalMaxPooling1D,
  layers.GlobalMaxPooling2D,
  layers.GlobalMaxPooling3D,
)
_ZEROS = (
  layers.ZeroPadding1D,
  layers.ZeroPadding2D,
  layers.ZeroPadding3D,
)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


def read(layer: Any, num_inputs: int) -> operations.Operation | None:
  """What a layer does with channels.

  Args:
    layer: a layer that is built.
    num_inputs: number of the tensors that it reads.

  Returns:
    The operation; None if it is not known.
  """
  kind = type(layer)
  if kind is layers.Add and num_inputs > 1:
    return _sum(layer, num_inputs)
  if num_inputs != 1 or getattr(layer, "data_format", "channels_last") not in (
    None,
    "channels_last",
  ):
    return None
  if kind is layers.Dense or kind in _CONVOLUTIONS:
    return _product(layer)
  if kind in _DEPTHWISE:
    return _depthwise(layer)
  if kind is layers.BatchNormalization:
    return _norm(layer)
  if kind is layers.Flatten:
    return _flatten(layer)
  channels = _last(layer.input.shape)
  if channels is None or _last(layer.output.shape) != channels:
    return None
  if kind in _ZEROS:
    return operations.Padding(channels)
  if kind is layers.Activation:
    function = _activation(layer.activation)
    return operations.Map(channels, function) if function else None
  if kind in _MAPS:
    return operations.Map(channels, lambda values: _numbers(layer(values)))
  if kind is layers.Rescaling:
    scalars = np.ndim(layer.scale) == 0 and np.ndim(layer.offset) == 0
    scale, offset = layer.scale, layer.offset
    return (
      operations.Map(channels, lambda values: values * scale + offset)
      if scalars
      else None
    )
  if kind in _IDENTITIES or kind in _WINDOWS or kind in _GLOBAL:
    return operations.Map(channels, lambda values: values)
  return None


def _last(shape: Any) -> int | None:
  return shape[-1] if len(shape) > 1 else None


def _array(values: Any) -> np.ndarray:
  return np.asarray(keras.ops.convert_to_numpy(values))


def _numbers(values: Any) -> np.ndarray:
  return _array(values).astype(np.float64)


def _activation(function: Any) -> Elementwise | None:
  """An activation on NumPy arrays; None if it mixes channels."""
  if function is None:
    return lambda values: values
  name = getattr(function, "__name__", "")
  if name not in _ACTIVATIONS or getattr(keras.activations, name) != function:
    return None
  return lambda values: _numbers(
    function(keras.ops.convert_to_tensor(values.astype(np.float32)))
  )


def _sum(layer: Any, num_inputs: int) -> operations.Operation | None:
  shapes = {tuple(tensor.shape) for tensor in keras.tree.flatten(layer.input)}
  (first, *others) = shapes
  if others or num_inputs != len(keras.tree.flatten(layer.input)):
    return None  # They are broadcast.
  return operations.Sum(int(first[-1])) if first[-1] else None


def _product(layer: Any) -> operations.Operation | None:
  activation = _activation(layer.activation)
  if activation is None or getattr(layer, "groups", 1) != 1:
    return None
  if getattr(layer, "quantization_mode", None) or getattr(
    layer, "lora_enabled", False
  ):
    return None
  kernel = _array(layer.kernel)
  is_padded = getattr(layer, "padding", "valid") != "valid" and bool(
    np.prod(kernel.shape[:-2]) > 1
  )
  return operations.Product(
    kernel, _bias(layer, kernel.shape[-1]), is_padded, activation
  )


def _depthwise(layer: Any) -> operations.Operation | None:
  activation = _activation(layer.activation)
  kernel = _array(layer.kernel)
  if activation is None or kernel.shape[-1] != 1:
    return None
  kernel = kernel[..., 0]
  is_padded = layer.padding != "valid" and bool(np.prod(kernel.shape[:-1]) > 1)
  return operations.Depthwise(
    kernel, _bias(layer, kernel.shape[-1]), is_padded, activation
  )


def _bias(layer: Any, size: int) -> np.ndarray:
  return _array(layer.bias) if layer.use_bias else np.zeros(size, np.float32)


def _norm(layer: Any) -> operations.Operation | None:
  rank = len(layer.input.shape)
  axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
  if axis not in (-1, rank - 1):
    return None
  mean = _numbers(layer.moving_mean)
  deviation = np.sqrt(_numbers(layer.moving_variance) + layer.epsilon)
  scale = _numbers(layer.gamma) if layer.scale else np.ones_like(mean)
  shift = _numbers(layer.beta) if layer.center else np.zeros_like(mean)
  return operations.Map(
    len(mean), lambda values: (values - mean) / deviation * scale + shift
  )


def _flatten(layer: Any) -> operations.Operation | None:
  shape = layer.input.shape[1:]
  if not shape or None in shape:
    return None
  return operations.Flatten(int(np.prod(shape[:-1])), int(shape[-1]))


def smaller(
  layer: Any, node: Node, liveness: Liveness
) -> tuple[Any, list[np.ndarray]]:
  """A layer without dead channels, which is not built, and its weights.

  Args:
    layer: the layer.
    node: its node in the graph.
    liveness: what stays of the graph.
  """
  config = layer.get_config()
  # What it remembers of the inputs that it was built for.
  config.pop("build_config", None)
  kept = liveness.kept(node)
  operation = node.operation
  if isinstance(operation, operations.Product):
    inside = liveness.kept(node.inputs[0])
    constant = liveness.constant(node.inputs[0])
    lost = np.where(inside | np.isnan(constant), 0.0, constant)
    bias = operation.bias + operation.contribution(lost)
    name = "units" if "units" in config else "filters"
    config[name] = int(np.count_nonzero(kept))
    config["use_bias"] = layer.use_bias or bool(np.any(bias[kept] != 0))
    kernel = operation.kernel[..., inside, :][..., kept]
    weights = [kernel, bias[kept]] if config["use_bias"] else [kernel]
    return type(layer).from_config(config), weights
  if isinstance(operation, operations.Depthwise):
    weights = [operation.kernel[..., kept, None]]
    if layer.use_bias:
      weights.append(operation.bias[kept])
    return type(layer).from_config(config), weights
  weights = layer.get_weights()
  if isinstance(layer, layers.BatchNormalization):
    weights = [value[kept] for value in weights]
  return type(layer).from_config(config), weights
