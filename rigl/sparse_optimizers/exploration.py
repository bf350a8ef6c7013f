# SPDX-License-Identifier: Apache-2.0
"""Explored connections: those that were active at any time.

Liu et al., 2021, https://arxiv.org/abs/2102.02887, call their share R_s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.sparse_optimizers import graph_control, restored
from rigl.sparse_optimizers.kernels import initial_value
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.types import Tensor, Variable


class Exploration:
  """One bool variable per layer, true where a connection was ever active.

  It changes in mask updates alone, and costs one byte per connection. A
  checkpoint without it starts the count anew, from its mask.
  """

  def __init__(self) -> None:
    self._explored: dict[str, Variable] = {}
    self._marks: dict[str, int] = {}

  def add(
    self, layer: SparseLayer, new_state: Callable[[Tensor, str], Variable]
  ) -> None:
    """Creates the variable of a layer, in which its mask is explored.

    Args:
      layer: the layer.
      new_state: creates a variable of the optimizer, of a value and a name.
    """
    has_mask = not layer.structure
    mask = initial_value(layer.mask) if has_mask else active_mask(layer)
    name = f"{layer.kernel_name}/explored"
    self._explored[layer.name] = new_state(mask, name)
    self._marks[layer.name] = -1

  def note(self, layers: Iterable[SparseLayer]) -> list[tf.Operation]:
    """Adds the active connections of layers; returns the assignments."""
    operations = []
    for layer in layers:
      explored = self._explored[layer.name]
      ever = tf.logical_or(explored.read_value(), active_mask(layer))
      operations.append(explored.assign(ever))
    return operations

  def adopt(self, layer: SparseLayer) -> None:
    """Begins anew at a mask that was restored without this variable."""
    explored = self._explored[layer.name]
    mark = restored.restore_mark(explored)
    if mark == self._marks[layer.name]:
      explored.assign(active_mask(layer))
    else:
      self.note([layer])
    self._marks[layer.name] = mark

  def counts(self) -> dict[str, Tensor]:
    """{layer name: number of explored connections}, int32 scalars."""
    return {
      name: mask_ops.count_ones(explored.read_value())
      for name, explored in self._explored.items()
    }

  def counts_on_host(self) -> dict[str, int]:
    """{layer name: number of explored connections}; not in a graph."""
    return {
      name: int(np.count_nonzero(graph_control.read_on_host(explored)))
      for name, explored in self._explored.items()
    }


def active_mask(layer: SparseLayer) -> Tensor:
  """The mask of all connections of a layer, bool of the shape of the kernel."""
  if layer.blocks is not None:
    size = layer.kernel.shape[1]
    return tf.repeat(tf.repeat(layer.snapshot(), size, 0), size, 1)
  if layer.compact is None:
    return layer.mask.read_value()
  positions = tf.boolean_mask(
    layer.compact.positions.read_value(), layer.mask.read_value()
  )
  flat = tf.scatter_nd(
    positions[:, None], tf.ones_like(positions, tf.bool), [layer.size]
  )
  return tf.reshape(flat, layer.shape)
