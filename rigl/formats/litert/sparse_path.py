# SPDX-License-Identifier: Apache-2.0
"""Whether XNNPACK computes a network with its sparse kernels, and if not, why.

XNNPACK, which computes LiteRT files on CPUs, has sparse kernels for 1x1
convolutions in WebAssembly and on Arm. They need images with the channels
first, so it uses them for a whole group of operations or not at all: from a 3x3
convolution with stride 2 of 3 channels, through operations that it has in this
order of the dimensions, to the mean over height and width. Two thirds of the
weights of the group's 1x1 convolutions have to be zero. (`subgraph.c` of
XNNPACK, https://github.com/google/XNNPACK.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from rigl.formats.litert.flatbuffer import Operation
from rigl.formats.litert.graph import Graph

# XNNPACK's own threshold: more than two thirds of zeros.
MIN_SPARSITY = 2 / 3

_UNARY = {
  "ABS",
  "CEIL",
  "ELU",
  "FLOOR",
  "GELU",
  "HARD_SWISH",
  "LEAKY_RELU",
  "LOGISTIC",
  "NEG",
  "RELU",
  "RELU6",
  "RELU_0_TO_1",
  "RELU_N1_TO_1",
  "ROUND",
  "RSQRT",
  "SQRT",
  "SQUARE",
  "TANH",
}
_BINARY = {"ADD", "MUL"}
_INSTEAD = {
  "AVERAGE_POOL_2D": "use a depthwise convolution with stride 2",
  "CONCATENATION": "add the branches instead",
  "MAX_POOL_2D": "use a convolution with stride 2 (3x3 at the start, "
  "depthwise later)",
  "SUB": "move it before the first convolution",
  "SOFTMAX": "end the convolutions with the mean over height and width",
  "RESHAPE": "end the convolutions with the mean over height and width",
}
_SAME = schema.Padding.SAME
_FLOATS = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16)
_STEM = "a 3x3 convolution with stride 2 of 3 channels, 1 zero on each side"


class Problem(NamedTuple):
  """What keeps XNNPACK from its sparse kernels.

  Attributes:
    operation: name of the operation, its kind and its result.
    reason: what is wrong with it.
    change: what to change.
  """

  operation: str
  reason: str
  change: str

  def __str__(self) -> str:
    return f"{self.operation}: {self.reason}; {self.change}"


def find_problem(content: bytes) -> Problem | None:
  """The first operation of a LiteRT file that breaks the sparse path.

  Args:
    content: the bytes of the file.

  Returns:
    The problem; None if XNNPACK will use its sparse kernels where it has them.

  Raises:
    ValueError: if it is no LiteRT file.
  """
  return _Check(content).run()


def has_convolutions(content: bytes) -> bool:
  """Whether a LiteRT file has a convolution, so that the path matters."""
  return any(
    operation.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")
    for operation in Graph(content).operations
  )


class _Check:
  """The check of one graph."""

  def __init__(self, content: bytes) -> None:
    self._graph = Graph(content)
    self._padding: dict[int, Any] = {}
    self._zeros = self._weights = 0

  def run(self) -> Problem | None:
    """Goes through the operations until the mean."""
    is_inside = False
    inside: set[int] = set()
    for node in self._graph.operations:
      if self._graph.only_decodes(node):
        continue
      if not is_inside:
        if node.kind == "PAD":
          self._note_padding(node)
        elif node.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
          problem = self._stem(node)
          if problem:
            return problem
          is_inside, inside = True, {*node.outputs}
        continue
      if not inside.intersection(node.inputs):
        continue
      if node.kind == "MEAN":
        return self._mean(node) or self._sparsity(node)
      problem = self._inner(node, inside)
      if problem:
        return problem
      inside |= {*node.outputs}
    if not is_inside:
      return Problem(
        "The network",
        "it has no convolution",
        "sparse convolutions are all that this is about",
      )
    return Problem(
      "The network",
      "its convolutions do not end in the mean over height and width",
      "add it after the last one",
    )

  def _inner(self, node: Operation, inside: set[int]) -> Problem | None:
    """The problem of an operation behind the first convolution."""
    if node.kind == "PAD":
      self._note_padding(node)
      return None
    if node.kind == "CONV_2D":
      return self._pointwise(node)
    if node.kind == "DEPTHWISE_CONV_2D":
      return self._depthwise(node)
    if node.kind in _BINARY:
      others = [i for i in node.inputs if not self._graph.is_constant(i)]
      if all(i in inside for i in others) and all(
        len(self._graph.shape(i)) == 4 for i in node.inputs
      ):
        return None
      return self._problem(
        node,
        "one of its inputs is not an image of these convolutions",
        "add images of the same convolutions alone",
      )
    if node.kind in _UNARY:
      return None
    return self._problem(
      node,
      "XNNPACK does not have it for images with the channels first",
      _INSTEAD.get(
        node.kind,
        "use 1x1 and depthwise convolutions, ReLUs and additions alone",
      ),
    )

  def _stem(self, node: Operation) -> Problem | None:
    kernel, options = self._graph.shape(node.inputs[1]), node.options
    if self._graph.stored_type(node.inputs[1]) not in _FLOATS:
      return self._problem(
        node, "its weights are int8", "store them as float32 or float16"
      )
    if node.kind == "CONV_2D":
      found = {
        f"its window is {kernel[1]}x{kernel[2]}": [*kernel[1:3]] == [3, 3],
        f"its images have {kernel[3]} channels": kernel[3] == 3,
        f"its stride is {options.strideH}": options.strideH == 2
        and options.strideW == 2,
        f"its zeros are {self._zeros_text(node)}": self._symmetric(node, 1),
        "it is dilated": self._is_plain(options),
      }
    else:
      found = {"it is depthwise": False}
    wrong = [text for text, good in found.items() if not good]
    if not wrong:
      return None
    return self._problem(node, wrong[0], f"start with {_STEM}")

  def _pointwise(self, node: Operation) -> Problem | None:
    kernel, options = self._graph.shape(node.inputs[1]), node.options
    if [*kernel[1:3]] != [1, 1]:
      return self._problem(
        node,
        f"its window is {kernel[1]}x{kernel[2]}",
        "use a depthwise convolution and a 1x1 one",
      )
    if (options.strideH, options.strideW) != (1, 1):
      return self._problem(
        node,
        f"it is 1x1 with stride {options.strideH}",
        "let the depthwise convolution before it make the step",
      )
    if node.inputs[0] in self._padding or not self._is_plain(options):
      return self._problem(
        node, "it is dilated or padded", "use a plain 1x1 convolution"
      )
    if kernel[3] != self._graph.shape(node.inputs[0])[-1]:
      return self._problem(node, "it has groups", "use one group")
    weights, zeros = self._graph.count_weights(node.inputs[1])
    self._weights += weights
    self._zeros += zeros
    return None

  def _depthwise(self, node: Operation) -> Problem | None:
    kernel, options = self._graph.shape(node.inputs[1]), node.options
    size = kernel[1]
    if kernel[1] != kernel[2] or size not in (3, 5):
      return self._problem(
        node, f"its window is {kernel[1]}x{kernel[2]}", "use 3x3 or 5x5"
      )
    if options.strideH != options.strideW or options.strideH not in (1, 2):
      return self._problem(
        node,
        f"its stride is {options.strideH}x{options.strideW}",
        "use 1 or 2",
      )
    if options.depthMultiplier != 1 or not self._is_plain(options):
      return self._problem(
        node, "it is dilated or multiplies channels", "do neither"
      )
    if not self._symmetric(node, size // 2):
      return self._problem(
        node,
        f"its zeros are {self._zeros_text(node)}",
        f"pad with {size // 2} on each side, by a layer of its own",
      )
    return None

  def _mean(self, node: Operation) -> Problem | None:
    axes = self._graph.integers(node.inputs[1])
    if sorted(axes) == [1, 2]:
      return None
    return self._problem(
      node, f"it is taken over {sorted(axes)}", "take it over [1, 2]"
    )

  def _sparsity(self, node: Operation) -> Problem | None:
    share = self._zeros / self._weights if self._weights else 0.0
    if share > MIN_SPARSITY:
      return None
    return self._problem(
      node,
      f"{share:.1%} of the weights of 1x1 convolutions before it are zero",
      "more than 66.7 % have to be",
    )

  def _note_padding(self, node: Operation) -> None:
    zeros = np.reshape(self._graph.integers(node.inputs[1]), (-1, 2)).tolist()
    self._padding[node.outputs[0]] = zeros

  def _symmetric(self, node: Operation, zeros: int) -> bool:
    """Whether a convolution sees so many zeros on each side."""
    padded = self._padding.get(node.inputs[0])
    if padded is not None:
      wanted = [[0, 0], [zeros, zeros], [zeros, zeros], [0, 0]]
      return padded == wanted and node.options.padding != _SAME
    return node.options.padding == _SAME and node.options.strideH == 1

  def _zeros_text(self, node: Operation) -> str:
    padded = self._padding.get(node.inputs[0])
    if padded is not None:
      return f"{padded[1][0]} before and {padded[1][1]} after the image"
    if node.options.padding == _SAME:
      return "those of `same` padding, which differ between the sides"
    return "none"

  def _is_plain(self, options: Any) -> bool:
    return options.dilationHFactor == 1 and options.dilationWFactor == 1

  def _problem(self, node: Operation, reason: str, change: str) -> Problem:
    result = self._graph.name(node.outputs[0])
    return Problem(f"{node.kind} ({result})", reason, change)
