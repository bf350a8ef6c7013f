# SPDX-License-Identifier: Apache-2.0
"""Layers of any TensorFlow model, found in the graph of its forward pass.

The model only has to be callable. Convolutions and matrix products with a
variable are layers, in the order in which the forward pass makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import tensorflow as tf

from rigl.counting import costs
from rigl.counting.specs import LayerSpec, layer_name
from rigl.types import Tensor

_KINDS = {
  "Conv2D": "conv2d",
  "DepthwiseConv2dNative": "depthwise_conv2d",
  "MatMul": "dense",
}
_ACTIVATIONS = {"Relu": "relu", "Relu6": "relu", "Sigmoid": "sigmoid"}
# Operations that may stand between a variable and its use.
_READS = ("Identity", "Cast", "ReadVariableOp")
_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# They add a bias if one of their inputs does not depend on the examples.
_SUMS = ("Add", "AddV2", "BiasAdd", "Sub")
# Operations that may stand between a kernel and its bias or activation.
_BETWEEN = (*_NORMS, *_SUMS, "Cast", "Identity", "Mul")


def find_layers(
  model: Callable[[Tensor], Tensor],
  input_shape: Sequence[int | None],
  dtype: tf.DType = tf.float32,
  names: Mapping[str, str] | None = None,
) -> list[LayerSpec]:
  """Finds the layers of a model in the graph of its forward pass.

  A bias, batch normalization or activation belongs to the layer whose outputs
  it is applied to. If these are a sum of several layers' outputs, it belongs to
  the last one of them, so that it counts once.

  Args:
    model: maps a batch of examples to any result; called once, in a graph.
    input_shape: shape of one example.
    dtype: type of the examples.
    names: names of layers by the names of their kernel variables. Other layers
      are called by their variables, without `/weights` and the like.

  Returns:
    One spec per layer, with the image sizes of this input.

  Raises:
    ValueError: if there is no layer, or a size is not known.
  """
  spec = tf.TensorSpec([1, *input_shape], dtype)
  function = tf.function(model, autograph=False).get_concrete_function(spec)
  variables = _variable_names(function)
  uses = _Uses(function)
  specs = []
  for operation in uses.kernels:
    variable = variables[_source(operation.inputs[1].op).name]
    name = (names or {}).get(variable) or layer_name(variable)
    specs.append(_spec(operation, name, uses))
  if not specs:
    raise ValueError("`model` must have a layer with a kernel, got none.")
  return specs


class _Uses:
  """Kernels of a graph, with the biases and activations of their outputs.

  Attributes:
    kernels: operations that multiply by a variable, in their order.
    activations: activations by the name of the kernel's operation.
    biased: names of the kernels' operations that have a bias or a batch
      normalization.
  """

  def __init__(self, function: tf.types.experimental.ConcreteFunction) -> None:
    self.kernels: list[tf.Operation] = []
    self.activations: dict[str, str] = {}
    self.biased: set[str] = set()
    self._variables = _variable_names(function)
    # The number of the kernel whose outputs an operation's result is.
    self._owners: dict[str, int] = {}
    # Operations whose results depend on the examples.
    captured = {inner.op.name for _, inner in function.graph.captures}
    self._dependent = {
      tensor.op.name
      for tensor in function.graph.inputs
      if tensor.op.name not in captured
    }
    for operation in function.graph.get_operations():
      self._add(operation)

  def _add(self, operation: tf.Operation) -> None:
    """Notes an operation, after all those that it depends on."""
    name, kind = operation.name, operation.type
    inputs = [tensor.op for tensor in operation.inputs]
    changing = [op for op in inputs if op.name in self._dependent]
    if not changing:
      return
    self._dependent.add(name)
    if kind in _KINDS and _source(inputs[1]).name in self._variables:
      self._owners[name] = len(self.kernels)
      self.kernels.append(operation)
      return
    owners = [self._owners[op.name] for op in inputs if op.name in self._owners]
    if not owners:
      return
    kernel = self.kernels[max(owners)].name
    if kind in _ACTIVATIONS:
      self.activations.setdefault(kernel, _ACTIVATIONS[kind])
    elif kind == "Mul" and _is_swish(inputs):
      self.activations[kernel] = "swish"
    elif kind in _BETWEEN:
      self._owners[name] = max(owners)
      if kind in _NORMS or (kind in _SUMS and len(changing) == 1):
        self.biased.add(kernel)


def _is_swish(inputs: Iterable[tf.Operation]) -> bool:
  """Whether a product is one of a value and its sigmoid."""
  return any(
    op.type == "Sigmoid" and op.inputs[0].op in inputs for op in inputs
  )


def _variable_names(
  function: tf.types.experimental.ConcreteFunction,
) -> dict[str, str]:
  """Names of the variables by those of their placeholders in the graph."""
  variables = {id(v.handle): v.name for v in function.graph.variables}
  return {
    inner.op.name: variables[id(outer)]
    for outer, inner in function.graph.captures
    if id(outer) in variables
  }


def _source(operation: tf.Operation) -> tf.Operation:
  while operation.type in _READS:
    operation = operation.inputs[0].op
  return operation


def _spec(operation: tf.Operation, name: str, uses: _Uses) -> LayerSpec:
  kernel = operation.inputs[1].shape.as_list()
  activation = uses.activations.get(operation.name)
  use_bias = operation.name in uses.biased
  if operation.type == "MatMul":
    if operation.get_attr("transpose_b"):
      kernel = kernel[::-1]
    return LayerSpec(
      name, "dense", kernel, activation=activation, use_bias=use_bias
    )
  data_format = operation.get_attr("data_format").decode()
  height, width = data_format.index("H"), data_format.index("W")
  strides = operation.get_attr("strides")
  image = operation.inputs[0].shape
  # Zeros before and after, in each dimension; empty if not explicit.
  zeros = operation.get_attr("explicit_paddings") or [0] * 8
  sizes = [
    image[i] and image[i] + sum(zeros[2 * i :][:2]) for i in (height, width)
  ]
  # A window of one pixel needs no zeros.
  is_same = operation.get_attr("padding") == b"SAME" or kernel[:2] == [1, 1]
  padding = "same" if is_same else "valid"
  steps = (strides[height], strides[width])
  result = operation.outputs[0].shape
  output = (result[height], result[width])
  return LayerSpec(
    name,
    _KINDS[operation.type],
    kernel,
    sizes,
    steps,
    padding,
    activation,
    use_bias,
    None if _follows(output, sizes, kernel, steps, padding) else output,
  )


def _follows(
  output: Sequence[int | None],
  sizes: Sequence[int | None],
  kernel: Sequence[int],
  strides: Sequence[int],
  padding: str,
) -> bool:
  """Whether image, window and stride determine the size of the result."""
  if None in sizes:
    return True  # `LayerSpec` refuses unknown sizes.
  return all(
    result == costs.output_size(int(size or 0), window, stride, padding)
    for result, size, window, stride in zip(
      output, sizes, kernel, strides, strict=False
    )
  )
