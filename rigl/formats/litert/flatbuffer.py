# SPDX-License-Identifier: Apache-2.0
"""LiteRT files as Python objects, by the schema that TensorFlow ships."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

IDENTIFIER = b"TFL3"
_METADATA = "rigl"
_DTYPES: dict[int, Any] = {
  schema.TensorType.FLOAT32: np.dtype(np.float32),
  schema.TensorType.FLOAT16: np.dtype(np.float16),
  schema.TensorType.INT8: np.dtype(np.int8),
}
_ALIGNMENT = 16  # Of the bytes of tensors, as the schema asks for.


class Operation(NamedTuple):
  """An operation of a graph.

  Attributes:
    kind: its name in the schema, such as `CONV_2D`.
    options: its settings; None if it has none.
    inputs: numbers of its input tensors; -1 for one that is left out.
    outputs: numbers of its output tensors.
    operator: the object of the schema.
  """

  kind: str
  options: Any
  inputs: list[int]
  outputs: list[int]
  operator: Any


def read(content: bytes) -> Any:
  """The model of a file.

  Args:
    content: the bytes of the file.

  Raises:
    ValueError: if it is no LiteRT file.
  """
  if content[4:8] != IDENTIFIER:
    raise ValueError("It is no LiteRT file.")
  return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def write(model: Any) -> bytes:
  """The bytes of a model."""
  buffers = model.buffers
  model.buffers = [_AlignedBuffer(buffer) for buffer in buffers]
  builder = flatbuffers.Builder(1 << 20)
  builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
  model.buffers = buffers
  return bytes(builder.Output())


class _AlignedBuffer:
  """A buffer that is written as the schema asks for.

  The generated code aligns bytes to 4, with which some kernels are slower.
  """

  def __init__(self, buffer: Any) -> None:
    self._data = buffer.data

  def Pack(self, builder: Any) -> int:  # noqa: N802 (The schema's name.)
    """Writes it; returns its place."""
    data = None
    if self._data is not None and len(self._data):
      content = np.asarray(self._data, np.uint8)
      builder.StartVector(1, len(content), _ALIGNMENT)
      end = builder.Head()
      start = end - len(content)
      builder.head = start
      builder.Bytes[start:end] = content.tobytes()
      data = builder.EndVector()
    schema.BufferStart(builder)
    if data is not None:
      schema.BufferAddData(builder, data)
    return schema.BufferEnd(builder)


def operations(model: Any, graph: Any) -> Iterator[Operation]:
  """The operations of a graph of a model, in the order of computation."""
  names = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if isinstance(number, int)
  }
  for operator in graph.operators:
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    yield Operation(
      names.get(number, f"operation {number}"),
      operator.builtinOptions,
      [int(i) for i in operator.inputs],
      [int(i) for i in operator.outputs],
      operator,
    )


def constant(model: Any, tensor: Any) -> np.ndarray | None:
  """The values of a float or int8 constant; None for other tensors."""
  data = model.buffers[tensor.buffer].data
  dtype = _DTYPES.get(tensor.type)
  if data is None or not len(data) or dtype is None or tensor.sparsity:
    return None
  values = np.asarray(data, np.uint8).view(dtype)
  return values.reshape([int(size) for size in tensor.shape])


def name_of(tensor: Any) -> str:
  """The name of a tensor."""
  name = tensor.name
  return name.decode() if isinstance(name, bytes) else str(name)


def set_metadata(model: Any, metadata: Mapping[str, Any]) -> None:
  """Adds metadata to a model, which readers that do not know it pass over."""
  buffer = schema.BufferT()
  buffer.data = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
  model.buffers.append(buffer)
  entry = schema.MetadataT()
  entry.name, entry.buffer = _METADATA, len(model.buffers) - 1
  model.metadata = [*(model.metadata or []), entry]


def read_metadata(content: bytes) -> dict[str, Any]:
  """The metadata of a LiteRT file of this package.

  Args:
    content: the bytes of the file.

  Raises:
    ValueError: if it is no LiteRT file or has no such metadata.
  """
  model = read(content)
  for entry in model.metadata or []:
    if name_of(entry) == _METADATA:
      found = json.loads(bytes(model.buffers[entry.buffer].data))
      return dict(found)
  raise ValueError("It has no metadata of rigl.")
