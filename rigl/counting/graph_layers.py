"""Finds the layers of any TensorFlow model in the graph of its forward pass.

It needs nothing of the model but that it can be called: convolutions and matrix
products with a variable are layers, in the order in which they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from rigl.counting.specs import LayerSpec, layer_name

Operation = Any

_KINDS = {
  "Conv2D": "conv2d",
  "DepthwiseConv2dNative": "depthwise_conv2d",
  "MatMul": "dense",
}
# What may stand between a variable and where it is used.
_PASS_THROUGH = ("Identity", "Cast", "ReadVariableOp")
_ACTIVATIONS = {"Relu": "relu", "Relu6": "relu", "Sigmoid": "sigmoid"}
# What may stand between a kernel and its activation.
_BETWEEN = ("BiasAdd", "AddV2", "FusedBatchNormV3", "Cast", "Identity")


def find_layers(
  model: Callable[[Any], Any],
  input_shape: Sequence[int],
  dtype: Any = tf.float32,
) -> list[LayerSpec]:
  """The layers of a model, as its forward pass uses them.

  Every layer is taken to have a bias, be it its own or that of a batch
  normalisation.

  Args:
    model: maps a batch of examples to something; called once, in a graph.
    input_shape: shape of one example.
    dtype: that of the examples.

  Returns:
    The layers under the names of their variables (without `/weights` and the
    like), with the sizes that they really have.

  Raises:
    ValueError: if there is none, or a size is not known.
  """
  spec = tf.TensorSpec([1, *input_shape], dtype)
  function = tf.function(model, autograph=False).get_concrete_function(spec)
  names = _variable_names(function)
  specs = []
  for operation in function.graph.get_operations():
    if operation.type not in _KINDS:
      continue
    name = names.get(_source(operation.inputs[1].op).name)
    if name is not None:
      specs.append(_spec(operation, layer_name(name)))
  if not specs:
    raise ValueError("`model` must have a layer with a kernel, got none.")
  return specs


def _variable_names(function: Any) -> dict[str, str]:
  """Names of the variables by those of their placeholders in the graph."""
  variables = {id(v.handle): v.name for v in function.graph.variables}
  return {
    inner.op.name: variables[id(outer)]
    for outer, inner in function.graph.captures
    if id(outer) in variables
  }


def _source(operation: Operation) -> Operation:
  while operation.type in _PASS_THROUGH:
    operation = operation.inputs[0].op
  return operation


def _spec(operation: Operation, name: str) -> LayerSpec:
  kernel = operation.inputs[1].shape.as_list()
  activation = _activation(operation)
  if operation.type == "MatMul":
    if operation.get_attr("transpose_b"):
      kernel = kernel[::-1]
    return LayerSpec(name, "dense", kernel, activation=activation)
  data_format = operation.get_attr("data_format").decode()
  height, width = data_format.index("H"), data_format.index("W")
  strides = operation.get_attr("strides")
  image = operation.inputs[0].shape
  result = operation.outputs[0].shape
  # Zeros before and after, in each dimension; empty if not explicit.
  zeros = operation.get_attr("explicit_paddings") or [0] * 8
  return LayerSpec(
    name,
    _KINDS[operation.type],
    kernel,
    [image[i] and image[i] + sum(zeros[2 * i :][:2]) for i in (height, width)],
    (strides[height], strides[width]),
    "same" if operation.get_attr("padding") == b"SAME" else "valid",
    activation,
    output_size=(result[height], result[width]),
  )


def _activation(operation: Operation) -> str | None:
  """The activation function that a kernel's output goes to, if to one only."""
  while True:
    users = operation.outputs[0].consumers()
    if len(users) != 1:
      return None
    (operation,) = users
    if operation.type in _ACTIVATIONS:
      return _ACTIVATIONS[operation.type]
    if operation.type not in _BETWEEN:
      return None
