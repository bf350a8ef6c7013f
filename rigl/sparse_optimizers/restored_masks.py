# SPDX-License-Identifier: Apache-2.0
"""Makes weights and masks agree after a checkpoint restored one or both.

`masks.MaskOwner` creates the masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rigl.sparse_optimizers import graph_control, restored
from rigl.sparse_optimizers.applied_masks import AppliedMasks
from rigl.sparse_optimizers.sparse_layer import SparseLayer


class RestoredMasks(AppliedMasks):
  """A wrapping optimizer that notices and keeps restored values.

  What a checkpoint restores wins, whether it is read before the masks are
  created or after: a restored mask is kept, and weights off it become zero; a
  restored kernel that is sparse already keeps its weights, and the mask moves
  to them. Weights that are lost are reported by a warning.
  """

  def _notice_restored(self) -> None:
    """Looks for values that a checkpoint restored since the last call.

    It is done when Python calls a method, so not inside of functions that are
    compiled already.
    """
    changed = [
      la for la in self._layers if self._marks[la.name] != marks_of(la)
    ]
    if changed:
      graph_control.outside_replicas(lambda: self._adopt_all(changed))

  def _adopt_all(self, changed: Sequence[SparseLayer]) -> None:
    with tf.init_scope():
      if tf.executing_eagerly():
        for layer in changed:
          before, now = self._marks[layer.name], marks_of(layer)
          self._adopt(layer, before[0] != now[0], before[1] != now[1])
    self._marks |= {layer.name: marks_of(layer) for layer in changed}

  def _adopt(self, layer: SparseLayer, of_kernel: bool, of_mask: bool) -> None:
    """Makes kernel and mask agree after one of them was restored.

    Args:
      layer: the layer.
      of_kernel: whether the kernel was restored.
      of_mask: whether the mask was restored.
    """
    weights = graph_control.read_on_host(layer.kernel)
    mask = graph_control.read_on_host(layer.mask)
    movable = layer.groups is None and not layer.structure
    if of_kernel and not of_mask and movable:
      mask = restored.mask_with_weights(weights, mask)
      layer.mask.assign(mask)
    lost = restored.warn_of_lost_weights(layer.name, weights, mask)
    if lost or not (of_kernel and of_mask):
      self._cleared(layer, layer.mask.read_value())

  def _restored_sparsities(self) -> dict[str, float]:
    """The sparsities of the masks that a checkpoint restored."""
    found: dict[str, float] = {}
    for layer in self._layers:
      if self._marks[layer.name][1] >= 0:
        mask = graph_control.read_on_host(layer.mask)
        found[layer.name] = float(1 - np.count_nonzero(mask) / mask.size)
    return found


def marks_of(layer: SparseLayer) -> tuple[int, int]:
  """The restore marks of a layer's kernel and mask; -1 if none was restored."""
  return restored.restore_mark(layer.kernel), restored.restore_mark(layer.mask)
