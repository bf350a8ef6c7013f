# SPDX-License-Identifier: Apache-2.0
"""Operations of a graph that multiply two tensors and add the products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from rigl.types import Tensor

_MATRICES = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
# Kind of layer by operation, and by the rank of its kernel.
_CONVOLUTIONS = {
  "Conv2D": "conv{}d",
  "Conv3D": "conv{}d",
  "DepthwiseConv2dNative": "depthwise_conv{}d",
}
_TRANSPOSED = {
  "Conv2DBackpropInput": "conv{}d_transpose",
  "Conv2DBackpropInputV2": "conv{}d_transpose",
  "Conv3DBackpropInput": "conv{}d_transpose",
  "Conv3DBackpropInputV2": "conv{}d_transpose",
}
_EINSUMS = ("Einsum", "XlaEinsum")
_SPARSE = ("SparseTensorDenseMatMul",)


class Product(NamedTuple):
  """What an operation multiplies.

  Attributes:
    factors: places of the two factors among the inputs.
    multiplications: number of multiplications, or None if a size is unknown.
    results: number of sums of products, or None if a size is unknown.
  """

  factors: tuple[int, int]
  multiplications: int | None
  results: int | None


def product_of(operation: tf.Operation) -> Product | None:
  """The product that an operation computes, or None if it is another one."""
  kind = operation.type
  inputs = [tensor.shape for tensor in operation.inputs]
  if kind in _MATRICES:
    results = elements(operation.outputs[0])
    transposed = _flag(operation, "transpose_a") or _flag(operation, "adj_x")
    inner = None
    if inputs[0].rank is not None:
      inner = inputs[0][-2 if transposed else -1]
    return Product((0, 1), _times(results, inner), results)
  if kind in _CONVOLUTIONS:
    results = elements(convolved(operation))
    kernel = inputs[1]
    window = None
    if kernel.is_fully_defined():
      # Multiplications of each result: all of the kernel but its outputs.
      parts = 2 if kind.startswith("Depthwise") else 1
      window = kernel.num_elements() // math.prod(kernel[-parts:])
    return Product((0, 1), _times(results, window), results)
  if kind in _TRANSPOSED:
    # Each value of the image is multiplied by its row of the kernel.
    kernel = inputs[1]
    row = None
    if kernel.is_fully_defined():
      row = kernel.num_elements() // kernel[-1]
    values = elements(operation.inputs[2])
    return Product((2, 1), _times(values, row), elements(operation.outputs[0]))
  if kind in _EINSUMS and len(inputs) == 2:
    return _einsum(operation)
  if kind in _SPARSE:
    columns = operation.outputs[0].shape
    number = columns[-1] if columns.rank else None
    return Product(
      (1, 3),
      _times(elements(operation.inputs[1]), number),
      elements(operation.outputs[0]),
    )
  return None


def kind_of(operation: tf.Operation, rank: int) -> str:
  """Kind of the layer whose kernel has a rank: one of `specs.KNOWN_KINDS`."""
  kinds = {**_CONVOLUTIONS, **_TRANSPOSED}
  if operation.type in kinds and 3 <= rank <= 5:
    return kinds[operation.type].format(rank - 2)
  return "dense" if rank == 2 and operation.type not in kinds else "einsum"


def elements(tensor: Tensor) -> int | None:
  """Number of elements of a tensor, or None if a size is unknown."""
  return tensor.shape.num_elements()


def convolved(operation: tf.Operation) -> Tensor:
  """The result of a convolution, without the pixels that are cut off.

  A dilated convolution may be one of several small images, with zeros so that
  they are of one size.
  """
  (result,) = operation.outputs
  while True:
    consumers = result.consumers()
    if len(consumers) != 1 or consumers[0].type not in (
      "Squeeze",
      "Reshape",
      "BatchToSpaceND",
      "BatchToSpace",
    ):
      return operation.outputs[0]
    result = consumers[0].outputs[0]
    if consumers[0].type.startswith("BatchToSpace"):
      return result


def _einsum(operation: tf.Operation) -> Product:
  equation = operation.get_attr("equation").decode().replace(" ", "")
  sizes: dict[str, int | None] = {}
  letters, output = equation.split("->")
  for term, tensor in zip(
    [*letters.split(","), output],
    [*operation.inputs, *operation.outputs],
    strict=True,
  ):
    for letter, size in _sizes(term, tensor):
      sizes[letter] = max(sizes.get(letter) or 1, size) if size else None
  total = None
  if None not in sizes.values():
    total = math.prod(size or 0 for size in sizes.values())
  return Product((0, 1), total, elements(operation.outputs[0]))


def _sizes(term: str, tensor: Tensor) -> Sequence[tuple[str, int | None]]:
  """The size of each letter of a term; an ellipsis counts from the right."""
  if tensor.shape.rank is None:
    return [(letter, None) for letter in term.replace("...", "")]
  before, _, after = term.partition("...")
  extra = tensor.shape.rank - len(before) - len(after)
  names = [*before, *(f"...{i}" for i in range(extra, 0, -1)), *after]
  return list(zip(names, tensor.shape.as_list(), strict=True))


def _times(a: int | None, b: int | None) -> int | None:
  return None if a is None or b is None else a * b


def _flag(operation: tf.Operation, name: str) -> bool:
  try:
    return bool(operation.get_attr(name))
  except ValueError:  # Another operation's flag.
    return False
