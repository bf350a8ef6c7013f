# SPDX-License-Identifier: Apache-2.0
"""Sets the weights off the masks, and their slots, to what they start with.

`masks.MaskOwner` creates the masks.
"""

from __future__ import annotations

import tensorflow as tf

from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.mask_state import MaskState
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.types import Tensor


class AppliedMasks(MaskState):
  """A wrapping optimizer that can set the weights off the masks to zero."""

  def apply_masks(self) -> tf.Operation | None:
    """Sets the weights off the masks to zero, and resets their slots.

    Every step and update leaves kernels masked. Call this after assigning
    kernels or masks by other means, such as a checkpoint that is read by name.

    Returns:
      In a graph, the operation that does it.
    """
    operations: list[tf.Operation] = []
    for layer in self._layers:
      operations += self._cleared(layer, layer.mask.read_value())
    return graph_control.group(operations)

  def _cleared(self, layer: SparseLayer, mask: Tensor) -> list[tf.Operation]:
    """Clears weights and slots of the connections that a mask turns off.

    Args:
      layer: the layer.
      mask: bool, of the kernel's shape.
    """
    kernel = layer.kernel.read_value()
    kernel = tf.where(mask, kernel, tf.zeros_like(kernel))
    operations = [layer.kernel.assign(kernel)]
    for slot, start in self._slots_of(layer.kernel):
      value = slot.read_value()
      # A cast of a Python number would round it to float32.
      rest = (
        tf.cast(kernel, value.dtype)
        if start is None
        else tf.constant(start, value.dtype)
      )
      operations.append(slot.assign(tf.where(mask, value, rest)))
    return operations
