# SPDX-License-Identifier: Apache-2.0
"""Two sets of weights per layer: those that compute and those that are trained.

Top-KAST derives from it, and says which step the trained weights make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rigl.schedules.update_window import UpdateWindow
from rigl.sparse_optimizers import graph_control, restored
from rigl.sparse_optimizers.dense_weights import DenseWeightsOptimizer
from rigl.sparse_optimizers.exploring import ExploringOptimizer
from rigl.sparse_optimizers.kernels import (
  initial_value,
  layer_shapes,
  scope_of,
)
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.sparse_optimizers.structured import groups_of_targets
from rigl.sparse_optimizers.top_kast_rule import (
  TopKASTRule,
  reset_outside,
  set_inputs,
)
from rigl.sparse_utils.backward_sets import (
  backward_sparsities,
  chosen_backward_sparsity,
)
from rigl.types import Tensor, Variable


class TwoSetsOptimizer(TopKASTRule, ExploringOptimizer, DenseWeightsOptimizer):
  """Chooses, at every update, the weights that compute and those it trains.

  The forward set A of a layer, which is its mask, holds its largest weights.
  The backward set B holds A and the largest of the others. Both are chosen by
  the weights that `DenseWeightsOptimizer` keeps. Slots of weights outside of B
  have their initial value.

  Args:
    backward_sparsity: share of the weights outside of B over all layers, in
      [0, `default_sparsity`]. None: that of twice as many weights as in A.
    schedule: when the sets are chosen again.
  """

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    default_sparsity: float,
    *args: Any,
    backward_sparsity: float | None,
    schedule: UpdateWindow,
    **options: Any,
  ) -> None:
    DenseWeightsOptimizer.__init__(
      self, optimizer, default_sparsity, *args, **options
    )
    self._schedule: UpdateWindow = schedule
    self._backward_sparsity = chosen_backward_sparsity(
      backward_sparsity, default_sparsity
    ).overall
    self._backward_targets: dict[str, float] = {}
    self._backward: dict[str, Variable] = {}
    self._backward_marks: dict[str, int] = {}

  @property
  def schedule(self) -> UpdateWindow:
    """When the sets are chosen again."""
    return self._schedule

  @property
  def backward_sparsities(self) -> dict[str, float]:
    """{layer name: share of its weights that are not trained}."""
    return dict(self._backward_targets)

  def backward_mask(self, layer: SparseLayer) -> Variable:
    """The set B of a layer, a bool variable of the shape of its kernel.

    Args:
      layer: one of `layers`.
    """
    return self._backward[layer.name]

  def create_masks(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    masks: Mapping[str, Tensor] | None = None,
  ) -> None:
    """Creates the masks of these kernels: their largest weights.

    Call it once, inside the scope of the `tf.distribute` strategy if there is
    one, and before the first step.

    Args:
      kernels: the sparse kernels, by layer name or as a sequence, whose layer
        names are then the variables' names without the last component.
      masks: {layer name: array or tensor of the kernel's shape}, nonzero for
        active, until the first update. None: the largest weights.

    Raises:
      ValueError: if a mask is missing, unknown or of another shape, or if a
        sparsity cannot be distributed over the layers.
      RuntimeError: if there are masks already.
    """
    targets = backward_sparsities(
      layer_shapes(kernels), *self._distribution, self._backward_sparsity
    )
    if not self.layers:
      self._backward_targets = targets
    super().create_masks(kernels, masks)

  def sparsify(self, *args: Any, **options: Any) -> dict[str, float]:
    """Refuses, because the method was given its sparsity.

    Raises:
      RuntimeError: always.
    """
    raise RuntimeError(
      f"{type(self).__name__} was given its sparsity, and starts with the "
      "largest weights: call create_masks(kernels) in place of sparsify."
    )

  def _first_masks(
    self, kernels: Mapping[str, Variable]
  ) -> Mapping[str, Tensor]:
    groups = groups_of_targets(kernels, self._targets, self._structure)
    with scope_of(kernels.values()):
      inputs = [
        set_inputs(
          initial_value(kernel),
          groups.get(name),
          self._ones_of(
            kernel.shape.num_elements(),
            groups.get(name),
            self._targets[name],
          ),
          self._backward_targets[name],
        )
        for name, kernel in kernels.items()
      ]
      masks = self._engine.map(self._largest, inputs)
    return {
      name: tf.reshape(mask, kernel.shape)
      for (name, kernel), mask in zip(kernels.items(), masks, strict=True)
    }

  def _prepare_layer(self, layer: SparseLayer) -> None:
    super()._prepare_layer(layer)
    mask = initial_value(layer.mask)
    dense = initial_value(self._dense[layer.name])
    self._backward[layer.name] = self._new_state(
      self._around(layer, mask, dense), f"{layer.kernel_name}/backward_mask"
    )
    self._backward_marks[layer.name] = -1

  def _around(self, layer: SparseLayer, mask: Tensor, dense: Tensor) -> Tensor:
    """The set B of a layer whose set A is a given mask."""
    inputs = self._inputs(layer, dense) | dict(mask=tf.reshape(mask, [-1]))
    (chosen,) = self._engine.map(self._largest_around, [inputs])
    return tf.reshape(chosen, mask.shape)

  def _adopt_sets(
    self, layer: SparseLayer, of_kernel: bool, of_mask: bool
  ) -> None:
    backward = self._backward[layer.name]
    mark = restored.restore_mark(backward)
    if of_kernel and not of_mask:
      graph_control.group(self._choose([layer]))
    elif mark == self._backward_marks[layer.name]:
      dense = self._dense[layer.name].read_value()
      backward.assign(self._around(layer, layer.mask.read_value(), dense))
    self._backward_marks[layer.name] = mark

  def _cleared(self, layer: SparseLayer, mask: Tensor) -> list[tf.Operation]:
    """Sets the kernel by its dense weights, and slots outside of B anew."""
    operations = super()._cleared(layer, mask)
    backward = self._backward[layer.name].read_value()
    for slot, start in self._slots_of(layer.kernel):
      dense = self._dense[layer.name].read_value()
      value = reset_outside(backward, slot.read_value(), start, dense)
      operations.append(slot.assign(value))
    return operations

  def _update(
    self, gradients: list[tuple[Tensor, Variable]] | None, step: Variable
  ) -> list[tf.Operation]:
    step = tf.cast(tf.convert_to_tensor(step), tf.int64)
    return self.mark_updated(step) + self._choose(self._layers)

  def _choose(self, layers: Sequence[SparseLayer]) -> list[tf.Operation]:
    """Chooses the sets of layers by their dense weights."""
    inputs = [
      self._inputs(layer, self._dense[layer.name].read_value())
      for layer in layers
    ]
    operations: list[tf.Operation] = []
    for layer, (forward, backward) in zip(
      layers, self._engine.map(self._both_sets, inputs), strict=True
    ):
      mask = tf.reshape(forward, layer.mask.shape)
      chosen = [
        layer.mask.assign(mask),
        self._backward[layer.name].assign(tf.reshape(backward, mask.shape)),
      ]
      with graph_control.after(*chosen):
        operations += [*chosen, *self._cleared(layer, mask)]
    return operations

  def _inputs(self, layer: SparseLayer, dense: Tensor) -> dict[str, Any]:
    size = layer.kernel.shape.num_elements()
    ones = self._ones_of(size, layer.groups, self._targets[layer.name])
    backward = self._backward_targets[layer.name]
    return set_inputs(dense, layer.groups, ones, backward)
