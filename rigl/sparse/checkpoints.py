# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of sparse layers as those of masked layers, and the reverse.

Tensors by name. Of a masked layer L they are

    L/weights           float [inputs, outputs]
    L/weights/SLOT      the same, such as L/weights/Momentum
    L/mask              float32 [inputs, outputs]

and of a layer that stores its active connections

    L/values            float [n]
    L/values/SLOT       the same
    L/positions         int32 [n], `NO_POSITION` at the end
    L/digest            int64, of the positions
    L/in_use            bool [n], whether there is a position
    L/shape             int64 [2], inputs and outputs

All other tensors are the same in both. `block_checkpoints` has those of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rigl.sparse.block_checkpoints import (
  KEPT_WHOLE,
  block_names,
  blocks_to_masked,
  masked_to_blocks,
)
from rigl.sparse.connections import check_size, digest_of
from rigl.sparse_optimizers.sparse_layer import NO_POSITION

Tensors = dict[str, np.ndarray]

_STRUCTURE = ("positions", "digest", "in_use", "shape")


def to_masked(
  tensors: Mapping[str, np.ndarray], layers: Iterable[str] | None = None
) -> Tensors:
  """Makes kernels and masks of values and positions, bit for bit.

  Inactive connections get weights and slots of zero, with which the slots of
  SGD, momentum and Adam start.

  Args:
    tensors: a checkpoint, arrays by name.
    layers: names of the layers to convert. None: all that store their active
      connections or blocks.

  Returns:
    The checkpoint of the masked network.

  Raises:
    ValueError: if a layer is damaged.
  """
  blocks = block_names(tensors)
  names = [*compact_names(tensors), *blocks] if layers is None else layers
  found = dict(tensors)
  for layer in names:
    if layer in blocks:
      found = blocks_to_masked(found, layer)
      continue
    for each in _STRUCTURE:
      found.pop(f"{layer}/{each}", None)
    shape, positions, number = _structure(tensors, layer)
    size, used = math.prod(shape), positions[:number]
    for name in _of(tensors, f"{layer}/values"):
      value = found.pop(name)
      flat = value
      if value.shape == positions.shape:
        flat = np.zeros(size, value.dtype)
        flat[used] = value[:number]
      target = f"{layer}/weights{name.removeprefix(f'{layer}/values')}"
      found[target] = flat.reshape(shape)
    mask = np.zeros(size, np.float32)
    mask[used] = 1
    found[f"{layer}/mask"] = mask.reshape(shape)
  return found


def to_compact(
  tensors: Mapping[str, np.ndarray], layers: Mapping[str, int | None]
) -> Tensors:
  """Makes values and positions of kernels and masks, bit for bit.

  What inactive connections have is left out.

  Args:
    tensors: a checkpoint, arrays by name.
    layers: {layer name: length n of its variables}; None for as many as it has
      connections.

  Returns:
    The checkpoint of the network whose layers store their active connections.

  Raises:
    ValueError: if a layer has no mask of its kernel's shape, or more
      connections than fit.
  """
  found = dict(tensors)
  for layer, length in layers.items():
    weights, mask = (found.get(f"{layer}/{n}") for n in ("weights", "mask"))
    if weights is None or mask is None or weights.shape != mask.shape:
      raise ValueError(
        f"The checkpoint must hold kernel and mask of {layer!r}, of one shape, "
        f"got {_shapes(found, layer)}."
      )
    if weights.ndim != 2:
      raise ValueError(
        f"The kernel of {layer!r} must have two axes, got {weights.shape}."
      )
    check_size(*weights.shape)
    used = np.flatnonzero(found.pop(f"{layer}/mask")).astype(np.int32)
    room = used.size if length is None else length
    if used.size > room:
      raise ValueError(
        f"The checkpoint has {used.size} connections in {layer!r}, which has "
        f"room for {room}."
      )
    missing = (0, room - used.size)
    for name in _of(tensors, f"{layer}/weights"):
      value = found.pop(name)
      if value.shape == weights.shape and not name.endswith(KEPT_WHOLE):
        value = np.pad(value.reshape(-1)[used], missing)
      found[f"{layer}/values{name.removeprefix(f'{layer}/weights')}"] = value
    positions = np.pad(used, missing, constant_values=NO_POSITION)
    found[f"{layer}/positions"] = positions
    found[f"{layer}/digest"] = np.array(digest_of(positions), np.int64)
    found[f"{layer}/in_use"] = positions != NO_POSITION
    found[f"{layer}/shape"] = np.array(weights.shape, np.int64)
  return found


def fitted(
  tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Any]
) -> Tensors:
  """Converts the layers of a checkpoint that a network has in another form.

  Args:
    tensors: the checkpoint, arrays by name.
    wanted: variables of the network by name.

  Returns:
    A checkpoint with the layers as the network has them; one that fits
    already is unchanged.

  Raises:
    ValueError: if a layer is damaged or cannot be converted.
  """
  compact_there = compact_names(tensors)
  for name in compact_there:
    _structure(tensors, name)
  masked = [
    name
    for name in [*compact_there, *block_names(tensors)]
    if f"{name}/weights" in wanted
  ]
  compact = {
    name: int(wanted[f"{name}/values"].shape[0])
    for name in compact_names(wanted)
    if f"{name}/weights" in tensors
  }
  found = to_compact(to_masked(tensors, masked), compact)
  for name in block_names(wanted):
    if f"{name}/weights" in tensors:
      block = int(wanted[f"{name}/values"].shape[1])
      found = masked_to_blocks(found, name, block)
  return found


def compact_names(tensors: Iterable[str]) -> list[str]:
  """The layers that store their active connections, of names of tensors."""
  ending = "/positions"
  return [n.removesuffix(ending) for n in tensors if n.endswith(ending)]


def _of(tensors: Iterable[str], kernel: str) -> list[str]:
  """The names of a kernel and of its slots."""
  return [n for n in tensors if n == kernel or n.startswith(f"{kernel}/")]


def _structure(
  tensors: Mapping[str, np.ndarray], layer: str
) -> tuple[tuple[int, int], np.ndarray, int]:
  """Shape of the kernel, positions, and how many there are.

  Raises:
    ValueError: if they are missing or do not belong together.
  """
  shape, positions, values = (
    tensors.get(f"{layer}/{name}") for name in ("shape", "positions", "values")
  )
  if (
    shape is None
    or positions is None
    or values is None
    or shape.shape != (2,)
    or positions.shape != values.shape
    or positions.ndim != 1
  ):
    raise ValueError(
      f"The checkpoint must hold shape, positions and values of {layer!r}, got "
      f"{_shapes(tensors, layer)}."
    )
  inputs, outputs = shape.tolist()
  number = int(np.searchsorted(positions, NO_POSITION))
  used, rest = positions[:number], positions[number:]
  if (
    positions.dtype != np.int32
    or np.any(used[1:] <= used[:-1])
    or (number and not 0 <= used[0] <= used[-1] < inputs * outputs)
    or np.any(rest != NO_POSITION)
    or int(tensors.get(f"{layer}/digest", -1)) != digest_of(positions)
  ):
    raise ValueError(
      f"The positions of {layer!r} in the checkpoint must be ascending, below "
      f"{inputs} * {outputs}, and those of its digest."
    )
  return (inputs, outputs), positions, number


def _shapes(tensors: Mapping[str, np.ndarray], layer: str) -> dict[str, Any]:
  found = {
    name: tensors[name].shape
    for name in tensors
    if name.startswith(f"{layer}/") and name.count("/") == layer.count("/") + 1
  }
  return dict(sorted(found.items()))
