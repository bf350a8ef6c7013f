# SPDX-License-Identifier: Apache-2.0
"""`summarize_sparsity`: what each layer of a model costs, dense and sparse.

FLOPs and bytes follow the MicroNet rules of `rigl.counting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from rigl import counting
from rigl.counting.costs import kernel_cost
from rigl.keras.compact_layers import count_stored, stored_layers
from rigl.keras.copies import copy_model
from rigl.keras.kernels import KERNEL_NAMES
from rigl.keras.wrapped import find_sparse_optimizer
from rigl.sparse_utils import Stats

_HEADER = (
  "Layer",
  "Shape",
  "Active",
  "Sparsity",
  "Dense FLOPs",
  "Sparse FLOPs",
  "Dense bytes",
  "Sparse bytes",
)

# Larger kernels, in weights, are not formed to count what they cost.
_LARGEST_KERNEL = 2**28


@dataclass(frozen=True)
class LayerCost:
  """A layer with a kernel, and its cost for one example.

  Attributes:
    layer: name of the layer.
    shape: shape of its kernel.
    active: number of active connections.
    dense_flops: multiplications and additions without zeros; None if they are
      not known.
    sparse_flops: the same, with inactive connections left out.
    dense_bytes: bytes of weights and biases, 4 for each.
    sparse_bytes: bytes of active weights and biases, and of a bit mask.
  """

  layer: str
  shape: tuple[int, ...]
  active: int
  dense_flops: float | None
  sparse_flops: float | None
  dense_bytes: float
  sparse_bytes: float

  @property
  def size(self) -> int:
    """Number of connections, active or not."""
    return int(np.prod(self.shape))

  @property
  def sparsity(self) -> float:
    """Share of inactive connections, in [0, 1]."""
    return 1 - self.active / self.size if self.size else 0.0


@dataclass(frozen=True)
class SparsityTable:
  """The layers of a model and what they cost; printing it shows a table.

  Attributes:
    layers: the layers with a kernel.
    reason: why FLOPs are not known; empty if they are.
  """

  layers: tuple[LayerCost, ...]
  reason: str = ""

  @property
  def size(self) -> int:
    """Number of connections of all kernels, active or not."""
    return sum(layer.size for layer in self.layers)

  @property
  def active(self) -> int:
    """Number of active connections."""
    return sum(layer.active for layer in self.layers)

  @property
  def sparsity(self) -> float:
    """Share of inactive connections in all kernels, in [0, 1]."""
    return 1 - self.active / self.size if self.size else 0.0

  @property
  def dense_flops(self) -> float | None:
    """FLOPs of one example without zeros; None if not known."""
    return _sum([layer.dense_flops for layer in self.layers])

  @property
  def sparse_flops(self) -> float | None:
    """FLOPs of one example with zeros left out; None if not known."""
    return _sum([layer.sparse_flops for layer in self.layers])

  @property
  def dense_bytes(self) -> float:
    """Bytes of all weights and biases."""
    return sum(layer.dense_bytes for layer in self.layers)

  @property
  def sparse_bytes(self) -> float:
    """Bytes of all active weights, biases and bit masks."""
    return sum(layer.sparse_bytes for layer in self.layers)

  def __str__(self) -> str:
    """The table as text, with the totals last."""
    rows: list[tuple[str, ...]] = [_HEADER]
    for layer in self.layers:
      shape = "x".join(map(str, layer.shape))
      rows.append((layer.layer, shape, *_cells(layer)))
    rows.append(("Total", "", *_cells(self)))
    text = counting.align(rows, left=2)
    if self.reason:
      text += f"\nFLOPs are not known: {self.reason}"
    return text


def summarize_sparsity(model: keras.Model) -> SparsityTable:
  """Counts the connections, FLOPs and bytes of every layer with a kernel.

  A multiplication and an addition count one each. A batch normalization counts
  as the bias that it can be folded into. A sparse kernel needs 4 bytes per
  active weight and one bit per connection.

  Args:
    model: a Keras model whose variables exist. If it was compiled with a sparse
      optimizer, that one's masks say which connections are active; all are in
      variables that it trains without a mask. In others, such as those of
      frozen layers or after `strip`, those whose weight is not zero are.

  Returns:
    The table: print it, or read its fields.

  Raises:
    ValueError: if the model is not built or has no kernel.
  """
  if not isinstance(model, keras.Model):
    raise ValueError(
      f"`model` must be a Keras model, got {type(model).__name__}."
    )
  if not model.built:
    raise ValueError("`model` must be built: call it on data, or fit it.")
  inactive = _Inactive(model)
  try:
    specs = counting.find_layers(_dense_form(model))
  except (ValueError, AttributeError) as error:
    return SparsityTable(_without_flops(model, inactive), str(error))
  costs = []
  for spec in specs:
    zeros = inactive.take(spec.name, spec.size)
    dense = counting.count_layer(spec).count
    # Half a connection more, so that rounding down gives this number.
    sparsity = min((zeros + 0.5) / spec.size, 1.0) if zeros else 0.0
    sparse = counting.count_layer(spec, sparsity).count
    costs.append(
      LayerCost(
        spec.name,
        tuple(spec.kernel_shape),
        spec.size - zeros,
        dense.flops,
        sparse.flops,
        dense.bytes,
        sparse.bytes,
      )
    )
  return SparsityTable(tuple(costs))


def get_stats(model: keras.Model) -> Stats:
  """Counts the FLOPs and bits of a Keras model with the zeros it has.

  `rigl.get_stats(model, sparsity, method)` counts a model as it would be with
  another sparsity.

  Args:
    model: as for `summarize_sparsity`.

  Returns:
    FLOPs of one example, bits of the active weights, biases and masks, and the
    share of zeros in all kernels.

  Raises:
    ValueError: if the model is not built, or its FLOPs cannot be counted.
  """
  table = summarize_sparsity(model)
  flops = table.sparse_flops
  if flops is None:
    raise ValueError(f"`model` must be one to count: {table.reason}")
  return Stats(flops, 8 * table.sparse_bytes, table.sparsity)


class _Inactive:
  """The numbers of inactive connections of the kernels of a model."""

  def __init__(self, model: keras.Model) -> None:
    optimizer = find_sparse_optimizer(model)
    kernels = optimizer.sparse_kernels if optimizer is not None else ()
    masks = {kernel.path: kernel.mask_with_weights() for kernel in kernels}
    trained = optimizer.trained_paths if optimizer is not None else set()
    self.shapes: list[tuple[str, tuple[int, ...]]] = []
    self._kernels: list[tuple[str, int, int]] = []
    stored = {layer.values.path: layer for layer in stored_layers(model)}
    for variable in model.weights:
      path, shape = variable.path, tuple(variable.shape)
      if path in stored:
        shape = tuple(stored[path].shape)
        size = int(np.prod(shape, dtype=np.int64))
        zeros = size - count_stored(stored[path])
      elif len(shape) < 2 and path not in masks:
        continue
      else:
        values = masks[path] if path in masks else variable.numpy()
        size, zeros = values.size, values.size - int(np.count_nonzero(values))
        if path in trained and path not in masks:
          zeros = 0
      self.shapes.append((path, shape))
      self._kernels.append((path, size, zeros))

  def take(self, layer: str, size: int) -> int:
    """The number of a layer's kernel, which is not taken again.

    Args:
      layer: name or path of the layer, or of its kernel.
      size: size of the kernel; others of the layer are not meant.
    """
    for i, (path, count, zeros) in enumerate(self._kernels):
      owner = path.rpartition("/")[0]
      if count == size and any(_is_end(name, layer) for name in (owner, path)):
        del self._kernels[i]
        return zeros
    return 0


def _dense_form(model: keras.Model) -> keras.Model:
  """A model of the same graph, all of whose kernels are ordinary.

  Raises:
    ValueError: if there is none that could be made.
  """
  layers = stored_layers(model)
  if not layers:
    return model
  for layer in layers:
    if np.prod(layer.shape, dtype=np.int64) > _LARGEST_KERNEL:
      raise ValueError(
        f"the kernel of {layer.name!r} is too large to be formed."
      )
  dense = {id(layer): layer.dense_layer() for layer in layers}
  for new in dense.values():
    new.kernel_initializer = keras.initializers.Zeros()
  return copy_model(model, dense)[0]


def _is_end(one: str, other: str) -> bool:
  """Whether one of two paths is the other's, with more scopes before it."""
  return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _without_flops(
  model: keras.Model, inactive: _Inactive
) -> tuple[LayerCost, ...]:
  """The costs of the kernels of a model whose layers cannot be counted."""
  paths = {variable.path for variable in model.weights}
  costs = []
  for path, shape in inactive.shapes:
    layer, _, leaf = path.rpartition("/")
    if leaf not in KERNEL_NAMES:
      continue
    size, outputs = int(np.prod(shape, dtype=np.int64)), shape[-1]
    zeros = inactive.take(layer, size)
    dense, sparse = (
      kernel_cost(size, outputs, 0, count, use_bias=f"{layer}/bias" in paths)
      for count in (0, zeros)
    )
    costs.append(
      LayerCost(
        layer,
        shape,
        size - zeros,
        None,
        None,
        dense.bytes,
        sparse.bytes,
      )
    )
  if not costs:
    raise ValueError("`model` must have a layer with a kernel, got none.")
  return tuple(costs)


def _sum(values: Sequence[float | None]) -> float | None:
  known = [value for value in values if value is not None]
  return sum(known) if len(known) == len(values) else None


def _cells(cost: LayerCost | SparsityTable) -> tuple[str, ...]:
  flops = (cost.dense_flops, cost.sparse_flops)
  return (
    f"{cost.active:,}",
    f"{cost.sparsity:.2%}",
    *("-" if number is None else f"{number:,.0f}" for number in flops),
    f"{cost.dense_bytes:,.0f}",
    f"{cost.sparse_bytes:,.0f}",
  )
