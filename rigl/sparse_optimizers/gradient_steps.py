# SPDX-License-Identifier: Apache-2.0
"""Gradient steps under masks: sums, masks, weight decay, the wrapped optimizer.

`base.SparseOptimizer` makes training iterations of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import tensorflow as tf

from rigl.checks import check_number, describe
from rigl.distribution import replicas
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.gradients import dense_pairs
from rigl.sparse_optimizers.kernels import as_variable
from rigl.sparse_optimizers.masks import MaskOwner
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.types import GradsAndVars, Tensor, Variable


class GradientSteps(MaskOwner):
  """An owner of masks whose gradient steps leave pruned weights at zero.

  Args:
    weight_decay: at least 0; the gradient of a weight w becomes
      g + weight_decay * w, the gradient of loss + weight_decay * sum(w^2) / 2.
      It is added here rather than to the loss, so that masks are never derived
      from this part.
    weight_decay_filter: function of a variable that returns whether it has
      weight decay. None: all variables of rank 2 and more have it.
  """

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    use_locking: bool,
    name: str | None,
    weight_decay: float,
    weight_decay_filter: Callable[[Variable], bool] | None,
    seed: int,
    mask_engine: EngineName,
    structure: str | None,
  ) -> None:
    super().__init__(optimizer, use_locking, name, seed, mask_engine, structure)
    check_number("weight_decay", weight_decay, 0)
    if weight_decay_filter is not None and not callable(weight_decay_filter):
      raise ValueError(
        "`weight_decay_filter` must be a function of a variable, got "
        f"{weight_decay_filter!r}."
      )
    self._weight_decay = float(weight_decay)
    self._has_decay = weight_decay_filter or self._is_kernel

  def step_gradients(
    self, grads_and_vars: GradsAndVars
  ) -> list[tuple[Tensor, Variable]]:
    """The gradients that the wrapped optimizer gets: masked, with weight decay.

    Args:
      grads_and_vars: pairs of dense gradients of the loss, summed over
        replicas, and variables.
    """
    return [(self._masked(g, v), v) for g, v in grads_and_vars]

  def _keep_zeros(self, stepped: tf.Operation | None) -> tf.Operation | None:
    """Clears what a gradient step moved off the masks.

    TensorFlow's own optimizers move nothing there, so that it costs nothing.
    Others, whose slots may be hidden or which add terms of their own, cost one
    pass over kernels and slots.
    """
    moved = [
      la for la in self._layers if not self._inner.keeps_zeros(la.kernel.dtype)
    ]
    if not moved:
      return stepped
    operations: list[tf.Operation] = []
    with graph_control.after(stepped):
      for layer in moved:
        operations += self._cleared(layer, layer.mask.read_value())
    return graph_control.group(operations)

  def regularization_loss(self, variables: Iterable[Variable]) -> Tensor:
    """The loss whose gradient is the weight decay: decay * sum(w^2) / 2.

    Args:
      variables: those whose weights w count, if they have weight decay.

    Returns:
      float32 scalar.
    """
    terms = [
      tf.nn.l2_loss(tf.cast(v, tf.float32))
      for v in map(as_variable, variables)
      if self._has_decay(v)
    ]
    return self._weight_decay * tf.add_n(terms) if terms else tf.constant(0.0)

  def _step_variable(self, global_step: Variable | None) -> Variable:
    """The variable that a gradient step advances.

    Raises:
      ValueError: if `global_step` is not a variable.
    """
    if global_step is None:
      return self.global_step
    try:
      return as_variable(global_step)
    except ValueError:
      raise ValueError(
        "`global_step` must be a variable, which steps advance, got "
        f"{describe(global_step)}."
      ) from None

  def _inner_step(
    self, gradients: list[tuple[Tensor, Variable]], step: Variable
  ) -> tf.Operation | None:
    # In a replica context the wrapped optimizer sums over replicas once more.
    share = 1.0 / replicas.num_in_strategy()
    if share != 1.0:
      gradients = [(g * tf.constant(share, g.dtype), v) for g, v in gradients]
    with graph_control.inside_replicas():
      return self._optimizer.apply_gradients(gradients, step)

  def _masked(self, gradient: Tensor, variable: Variable) -> Tensor:
    layer = self._layer_of.get(id(variable))
    if layer is not None and layer.blocks is None:
      gradient = tf.where(layer.mask, gradient, tf.zeros_like(gradient))
    return self._decayed(gradient, variable)

  def _decayed(self, gradient: Tensor, variable: Variable) -> Tensor:
    if self._weight_decay and self._has_decay(variable):
      gradient += tf.constant(self._weight_decay, gradient.dtype) * variable
    return gradient

  def reduce_gradients(
    self, grads_and_vars: GradsAndVars
  ) -> list[tuple[Tensor, Variable]]:
    """Checks gradients, sums them over replicas or shards, drops missing ones.

    A variable without a gradient is left as it is, also a sparse kernel.

    Everything that masks are derived from passes through here, or replicas
    would drift apart. Across the shards of a TPU computation it is the only
    sum.

    Args:
      grads_and_vars: pairs of gradients, or None, and variables. A gradient
        has the shape and dtype of its variable.

    Returns:
      Pairs of dense tensors and variables.

    Raises:
      ValueError: if they are not as described, a variable comes twice, or
        every variable lacks its gradient.
    """
    present = dense_pairs(grads_and_vars)
    if not present:
      raise ValueError("No gradients are given for any variable.")
    total = self._sum_of_replicas()
    if total is None:
      return present
    gradients = total([g for g, _ in present])
    return [(g, v) for g, (_, v) in zip(gradients, present, strict=True)]

  def _sum_of_replicas(
    self,
  ) -> Callable[[list[Tensor]], list[Tensor]] | None:
    """The sum of tensors over replicas or shards; None if there is one."""
    if replicas.num_replicas() > 1:
      return replicas.sums
    if self._sums_shards:
      return lambda tensors: [
        tf.compat.v1.tpu.cross_replica_sum(tensor) for tensor in tensors
      ]
    return None

  def _gradient_of(
    self, gradients: Iterable[tuple[Tensor, Variable]], layer: SparseLayer
  ) -> Tensor:
    for gradient, variable in gradients:
      if variable is layer.kernel:
        return gradient
    raise ValueError(f"No gradient is given for the sparse layer {layer.name}.")

  def _without_gradient(
    self, gradients: Iterable[tuple[Tensor, Variable]]
  ) -> list[SparseLayer]:
    """The layers whose kernels have no gradient."""
    given = {id(variable) for _, variable in gradients}
    return [la for la in self._layers if id(la.kernel) not in given]

  def _is_kernel(self, variable: Variable) -> bool:
    layer = self._layer_of.get(id(variable))
    compact = layer is not None and layer.compact is not None
    return compact or variable.shape.rank >= 2
