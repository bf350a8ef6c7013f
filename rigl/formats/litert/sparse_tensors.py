# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors in LiteRT files: the non-zero values and their places.

The last dimension of a kernel is stored in compressed sparse rows (CSR): per
row the number of the first value, per value its column, in as few bytes as the
sizes allow. An operation `DENSIFY` makes a dense tensor of it when the file is
loaded. A fully connected layer may read the sparse tensor itself, and then
computes with the non-zero weights alone.

XNNPACK, to which LiteRT hands over what it can, would take the non-zero values
of such a layer for a dense kernel. It refuses every layer whose format of
weights is not the default one, which LiteRT's kernel for floats does not look
at: so these layers have another one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from rigl.formats.litert import flatbuffer
from rigl.formats.litert.flatbuffer import Operation

# A fully connected layer below this sparsity is faster as a dense product.
DIRECT_SPARSITY = 0.8
# Bytes of a sparse tensor in the file, over those of its values.
_OVERHEAD = 256

_VECTORS = (
  (np.uint8, schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
  (np.uint16, schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
  (np.int32, schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
)
_SHUFFLED = schema.FullyConnectedOptionsWeightsFormat.SHUFFLED4x16INT8
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D")


def sparsify(model: Any) -> dict[str, float]:
  """Makes the constants of a model sparse that are smaller then.

  In a network without convolutions, layers of at least `DIRECT_SPARSITY` read
  their sparse kernels directly; in others, XNNPACK takes over whole groups of
  layers, for which kernels have to be dense in memory.

  Args:
    model: of `flatbuffer.read`; it is changed.

  Returns:
    {name of the tensor: its share of zeros}.
  """
  found: dict[str, float] = {}
  for graph in model.subgraphs:
    nodes = [*flatbuffer.operations(model, graph)]
    direct = not any(node.kind in _CONVOLUTIONS for node in nodes)
    uses = _uses(nodes)
    shared = _shared_buffers(model)
    fixed = {int(i) for i in [*graph.inputs, *graph.outputs]}
    for number in range(len(graph.tensors)):
      tensor = graph.tensors[number]
      if number in fixed or tensor.buffer in shared or tensor.isVariable:
        continue
      values = flatbuffer.constant(model, tensor)
      if values is None or values.ndim < 2 or number not in uses:
        continue
      if not _can_be_sparse(graph, number, uses[number]):
        continue
      parts = _compressed(values)
      if parts is None:
        continue
      sparsity = 1.0 - np.count_nonzero(values) / values.size
      found[flatbuffer.name_of(tensor)] = float(sparsity)
      if (
        direct
        and sparsity >= DIRECT_SPARSITY
        and _is_direct(tensor, uses[number], number)
      ):
        _make_sparse(model, tensor, values, parts)
        for node in uses[number]:
          _keep_from_xnnpack(graph, node)
      else:
        _densify(model, graph, number, values, parts)
  return found


def _can_be_sparse(graph: Any, number: int, uses: list[Operation]) -> bool:
  """Whether LiteRT computes a constant that is sparse in the file correctly.

  XNNPACK takes int8 kernels that `DENSIFY` makes for convolutions of int8
  images alone: it refuses others in Python, and computes them wrongly in
  WebAssembly (LiteRT 2.3 and LiteRT.js 2.5.3).
  """
  int8 = schema.TensorType.INT8
  return graph.tensors[number].type != int8 or all(
    node.kind == "CONV_2D"
    and node.inputs[1] == number
    and graph.tensors[node.inputs[0]].type == int8
    for node in uses
  )


def _uses(nodes: list[Operation]) -> dict[int, list[Operation]]:
  uses: dict[int, list[Operation]] = {}
  for node in nodes:
    for number in node.inputs:
      uses.setdefault(number, []).append(node)
  return uses


def _shared_buffers(model: Any) -> set[int]:
  """The buffers of several tensors."""
  seen: set[int] = set()
  shared: set[int] = set()
  for graph in model.subgraphs:
    for tensor in graph.tensors:
      (shared if tensor.buffer in seen else seen).add(tensor.buffer)
  return shared


def _is_direct(tensor: Any, uses: list[Operation], number: int) -> bool:
  """Whether a tensor is a float kernel of fully connected layers only."""
  return tensor.type == schema.TensorType.FLOAT32 and all(
    node.kind == "FULLY_CONNECTED"
    and node.inputs[1] == number
    and node.inputs.count(number) == 1
    for node in uses
  )


def _keep_from_xnnpack(graph: Any, node: Operation) -> None:
  """Gives a fully connected layer a format of weights that XNNPACK refuses.

  The format asks for a second result, a workspace, which nothing reads.
  """
  node.options.weightsFormat = _SHUFFLED
  workspace = schema.TensorT()
  workspace.type, workspace.hasRank = schema.TensorType.UINT8, True
  workspace.shape, workspace.buffer = np.array([1], np.int32), 0
  result = graph.tensors[node.outputs[0]]
  workspace.name = f"{flatbuffer.name_of(result)}/workspace"
  graph.tensors.append(workspace)
  node.operator.outputs = np.array(
    [*node.outputs, len(graph.tensors) - 1], np.int32
  )


def _stored(values: np.ndarray) -> np.ndarray:
  """Where a sparse tensor has a value: a bool array of that shape.

  One zero is stored where there is nothing else, because LiteRT takes a tensor
  without a value for one that is computed.
  """
  stored = values != 0
  if not stored.any():
    stored.flat[0] = True
  return stored


def _compressed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
  """Row starts and columns of the stored values; None if that is larger."""
  columns = values.shape[-1]
  rows = _stored(values).reshape(-1, columns)
  counts = np.count_nonzero(rows, axis=1)
  starts = _smallest(np.concatenate([[0], np.cumsum(counts)]))
  places = _smallest(np.nonzero(rows)[1], columns - 1)
  size = len(places) * (places.itemsize + values.itemsize) + starts.nbytes
  return (starts, places) if size + _OVERHEAD < values.nbytes else None


def _smallest(numbers: np.ndarray, largest: int | None = None) -> np.ndarray:
  """The numbers in the smallest type that the schema has for them."""
  if largest is None:
    largest = int(numbers.max(initial=0))
  for dtype, _, _ in _VECTORS:
    if largest <= np.iinfo(dtype).max:
      return numbers.astype(dtype)
  raise ValueError(f"A tensor has {largest} values, more than a file can hold.")


def _make_sparse(
  model: Any,
  tensor: Any,
  values: np.ndarray,
  parts: tuple[np.ndarray, np.ndarray],
) -> None:
  """Gives a tensor its sparsity, and its buffer the stored values."""
  rank = values.ndim
  sparsity = schema.SparsityParametersT()
  sparsity.traversalOrder = np.arange(rank, dtype=np.int32)
  sparsity.blockMap = None
  sparsity.dimMetadata = []
  for size in values.shape[:-1]:
    dense = schema.DimensionMetadataT()
    dense.format, dense.denseSize = schema.DimensionType.DENSE, int(size)
    sparsity.dimMetadata.append(dense)
  last = schema.DimensionMetadataT()
  last.format = schema.DimensionType.SPARSE_CSR
  last.arraySegmentsType, last.arraySegments = _vector(parts[0])
  last.arrayIndicesType, last.arrayIndices = _vector(parts[1])
  sparsity.dimMetadata.append(last)
  tensor.sparsity = sparsity
  kept = values[_stored(values)]
  model.buffers[tensor.buffer].data = np.frombuffer(kept.tobytes(), np.uint8)


def _vector(numbers: np.ndarray) -> tuple[int, Any]:
  for dtype, kind, cls in _VECTORS:
    if numbers.dtype == dtype:
      vector = cls()
      vector.values = numbers
      return kind, vector
  raise AssertionError(numbers.dtype)


def _densify(
  model: Any,
  graph: Any,
  number: int,
  values: np.ndarray,
  parts: tuple[np.ndarray, np.ndarray],
) -> None:
  """Adds a sparse tensor, and the operation that makes it dense again."""
  dense = graph.tensors[number]
  sparse = schema.TensorT()
  sparse.shape, sparse.type = dense.shape, dense.type
  sparse.name = f"{flatbuffer.name_of(dense)}/sparse"
  sparse.buffer, sparse.hasRank = dense.buffer, dense.hasRank
  sparse.quantization = dense.quantization
  _make_sparse(model, sparse, values, parts)
  dense.buffer = 0  # The empty one.
  graph.tensors.append(sparse)
  operator = schema.OperatorT()
  operator.opcodeIndex = _code(model, schema.BuiltinOperator.DENSIFY)
  operator.inputs = np.array([len(graph.tensors) - 1], np.int32)
  operator.outputs = np.array([number], np.int32)
  operator.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
  operator.builtinOptions = schema.DensifyOptionsT()
  graph.operators.insert(0, operator)


def _code(model: Any, number: int) -> int:
  """The place of an operation in the model's list, which it is added to."""
  for place, code in enumerate(model.operatorCodes):
    if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
      return place
  code = schema.OperatorCodeT()
  code.builtinCode = code.deprecatedBuiltinCode = number
  code.version = 1
  model.operatorCodes.append(code)
  return len(model.operatorCodes) - 1
