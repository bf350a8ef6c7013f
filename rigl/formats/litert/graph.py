# SPDX-License-Identifier: Apache-2.0
"""Graph of a LiteRT file: its operations, and what it stores of its tensors."""

from __future__ import annotations

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from rigl.formats.litert import flatbuffer
from rigl.formats.litert.flatbuffer import Operation

# Operations that make a stored tensor dense, or its values float32.
_DECODING = {"DENSIFY", "DEQUANTIZE"}


class Graph:
  """The first graph of a LiteRT file.

  Tensors are given by their numbers. For a constant that operations make dense
  or float32 first, the answers are those of the tensor that the file stores.

  Attributes:
    operations: the operations, in the order of computation.

  Args:
    content: the bytes of the file.

  Raises:
    ValueError: if it is no LiteRT file.
  """

  def __init__(self, content: bytes) -> None:
    self._model = flatbuffer.read(content)
    self._graph = self._model.subgraphs[0]
    self.operations = [*flatbuffer.operations(self._model, self._graph)]
    self._decoded_from = {
      operation.outputs[0]: operation.inputs[0]
      for operation in self.operations
      if operation.kind in _DECODING
    }

  def only_decodes(self, operation: Operation) -> bool:
    """Whether an operation does no more than to decode a constant."""
    return operation.kind in _DECODING and self.is_constant(operation.inputs[0])

  def is_constant(self, number: int) -> bool:
    """Whether the file has the values of a tensor, or it is left out."""
    number = self._stored(number)
    if number < 0:
      return True
    data = self._model.buffers[self._graph.tensors[number].buffer].data
    return data is not None and len(data) > 0

  def shape(self, number: int) -> list[int]:
    """The sizes of a tensor."""
    return [int(size) for size in self._graph.tensors[number].shape]

  def name(self, number: int) -> str:
    """The name of a tensor; the first one of those that were merged."""
    return flatbuffer.name_of(self._graph.tensors[number]).split(";")[0]

  def stored_type(self, number: int) -> int:
    """The type in which the file stores a tensor: a `schema.TensorType`."""
    return int(self._graph.tensors[self._stored(number)].type)

  def integers(self, number: int) -> list[int]:
    """The values of a constant of int32 or int64."""
    tensor = self._graph.tensors[number]
    data = np.asarray(self._model.buffers[tensor.buffer].data, np.uint8)
    wide = tensor.type == schema.TensorType.INT64
    return [int(n) for n in data.view(np.int64 if wide else np.int32)]

  def count_weights(self, number: int) -> tuple[int, int]:
    """The number of values of a float constant, and how many are zero."""
    tensor = self._graph.tensors[self._stored(number)]
    size = int(np.prod(tensor.shape))
    data = self._model.buffers[tensor.buffer].data
    width = 2 if tensor.type == schema.TensorType.FLOAT16 else 4
    # All values, or those that a sparse tensor stores.
    values = np.asarray(data, np.uint8).view(f"f{width}")
    return size, size - int(np.count_nonzero(values))

  def _stored(self, number: int) -> int:
    """The tensor that a decoded one is made of; others are their own."""
    while number in self._decoded_from:
      number = self._decoded_from[number]
    return number
