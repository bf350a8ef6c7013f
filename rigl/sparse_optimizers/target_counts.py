# SPDX-License-Identifier: Apache-2.0
"""Target counts: how many connections each layer was given.

A mask cannot tell once it has a surplus, or once connections moved to other
layers. So a checkpoint holds the number.
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


class TargetCounts:
  """One int64 variable per layer: its active connections at the start.

  A mask that is restored without it gives the number itself.
  """

  def __init__(self) -> None:
    self._counts: dict[str, Variable] = {}
    self._marks: dict[str, int] = {}

  def add(
    self, layer: SparseLayer, new_state: Callable[[Tensor, str], Variable]
  ) -> None:
    """Creates the variable of a layer, the number of its mask.

    Args:
      layer: the layer.
      new_state: creates a variable of the optimizer, of a value and a name.
    """
    number = _number(initial_value(layer.mask))
    name = f"{layer.kernel_name}/target_connections"
    self._counts[layer.name] = new_state(number, name)
    self._marks[layer.name] = -1

  def adopt(self, layer: SparseLayer) -> None:
    """Takes the number of a mask that was restored without this variable."""
    count = self._counts[layer.name]
    mark = restored.restore_mark(count)
    if mark == self._marks[layer.name]:
      count.assign(_number(layer.mask.read_value()))
    self._marks[layer.name] = mark

  def of(self, layer: SparseLayer) -> Tensor:
    """The number of a layer, an int32 scalar."""
    return tf.cast(self._counts[layer.name].read_value(), tf.int32)

  def num_surplus(self, layers: Iterable[SparseLayer]) -> int:
    """Active connections of all layers beyond their numbers, on the host."""
    return sum(
      int(np.count_nonzero(graph_control.read_on_host(layer.mask)))
      - int(graph_control.read_on_host(self._counts[layer.name]))
      for layer in layers
    )


def _number(mask: Tensor) -> Tensor:
  return tf.cast(mask_ops.count_ones(mask), tf.int64)
