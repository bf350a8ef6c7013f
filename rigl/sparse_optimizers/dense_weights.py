# SPDX-License-Identifier: Apache-2.0
"""Weights of inactive connections that live on, beside the kernel.

The base of DNW and Top-KAST.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rigl.sparse_optimizers import graph_control, restored
from rigl.sparse_optimizers.kernels import initial_value
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.sparse_optimizers.target_sparsity import TargetSparsityOptimizer
from rigl.types import GradsAndVars, Tensor, Variable


class DenseWeightsOptimizer(TargetSparsityOptimizer):
  """Steps dense weights, of which the kernel holds the active ones.

  Every layer has a variable of its shape with all its weights,

      kernel = mask * dense.

  A gradient step takes the gradients of the masked kernel and makes the step of
  the wrapped optimizer with the dense weights. A method says in `_after_step`
  which of them it keeps. Active weights that were assigned to the kernel by
  other means become dense weights in the next step.
  """

  takes_compact_layers = False

  def __init__(self, *args: Any, **options: Any) -> None:
    super().__init__(*args, **options)
    self._dense: dict[str, Variable] = {}
    self._dense_marks: dict[str, int] = {}

  def dense_weights(self, layer: SparseLayer) -> Variable:
    """The weights of a layer, with those of its inactive connections.

    Args:
      layer: one of `layers`.
    """
    return self._dense[layer.name]

  def _prepare_layer(self, layer: SparseLayer) -> None:
    self._dense[layer.name] = self._new_state(
      initial_value(layer.kernel), f"{layer.kernel_name}/dense"
    )
    self._dense_marks[layer.name] = -1

  def _adopt(self, layer: SparseLayer, of_kernel: bool, of_mask: bool) -> None:
    dense = self._dense[layer.name]
    mark = restored.restore_mark(dense)
    if of_kernel and mark == self._dense_marks.get(layer.name):
      dense.assign(layer.kernel.read_value())
    self._dense_marks[layer.name] = mark
    self._adopt_sets(layer, of_kernel, of_mask)
    super()._adopt(layer, of_kernel, of_mask)

  def _adopt_sets(
    self, layer: SparseLayer, of_kernel: bool, of_mask: bool
  ) -> None:
    """Hook: chooses connections again, after dense weights were restored.

    Args:
      layer: the layer.
      of_kernel: whether the kernel was restored.
      of_mask: whether the mask was restored.
    """

  def _cleared(self, layer: SparseLayer, mask: Tensor) -> list[tf.Operation]:
    """Sets the kernel by its dense weights; slots of inactive ones live on."""
    weights = self._dense[layer.name].read_value()
    zero = tf.zeros_like(weights)
    return [layer.kernel.assign(tf.where(mask, weights, zero))]

  def apply_masked_gradients(
    self,
    grads_and_vars: GradsAndVars,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Steps the dense weights, and sets the kernels by them.

    Args:
      grads_and_vars: pairs of dense gradients of the loss and variables; in a
        replica context, unless `reduced`, each replica's own.
      global_step: int64 variable to advance. None: the optimizer's own.
      reduced: whether the gradients are summed over replicas already.

    Returns:
      In a graph, the operation that does it.

    Raises:
      RuntimeError: if the masks are not created yet.
    """
    self._check_created()
    self._notice_restored()
    pairs = list(grads_and_vars)
    if not reduced:
      pairs = self.reduce_gradients(pairs)
    step = self._step_variable(global_step)
    given = {id(variable) for _, variable in pairs}
    layers = [la for la in self.layers if id(la.kernel) in given]
    # The gradients, first, are those of the masked kernels.
    with graph_control.after(*(gradient for gradient, _ in pairs)):
      dense = [la.kernel.assign(self._all_weights(la)) for la in layers]
    with graph_control.after(*dense):
      stepped = self._inner_step(self.step_gradients(pairs), step)
    with graph_control.after(stepped):
      return graph_control.group(self._after_step(layers))

  def apply_masks(self) -> tf.Operation | None:
    """Sets the weights off the masks to zero, and keeps those on them.

    Every step and update leaves kernels masked. Call this after assigning
    kernels or masks by other means, such as a checkpoint that is read by name.

    Returns:
      In a graph, the operation that does it.
    """
    kept = [
      self._dense[layer.name].assign(self._all_weights(layer))
      for layer in self.layers
    ]
    with graph_control.after(*kept):
      return super().apply_masks()

  def _all_weights(self, layer: SparseLayer) -> Tensor:
    """The active weights by the kernel, the others by the variable beside."""
    return tf.where(
      layer.mask.read_value(),
      layer.kernel.read_value(),
      self._dense[layer.name].read_value(),
    )

  def _after_step(self, layers: Sequence[SparseLayer]) -> list[tf.Operation]:
    """Hook: sets dense weights and kernels after a step of the dense weights.

    Args:
      layers: the layers that made the step; their kernels hold the result.
    """
    raise NotImplementedError
