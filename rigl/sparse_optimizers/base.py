# SPDX-License-Identifier: Apache-2.0
"""The common part of all sparse optimizers: masked steps and mask updates.

A method derives from one of the classes of this package and defines which
connections it drops and grows, and when.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import tensorflow as tf

from rigl.mask_ops import EngineName
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.gradient_steps import GradientSteps
from rigl.types import GradsAndVars, Tensor, Variable


class SparseOptimizer(GradientSteps):
  """Wraps an optimizer and keeps the weights of a network sparse.

  The optimizer owns one mask per sparse kernel and guarantees, after every
  call,

      kernel == kernel * mask;

  the slots (momentum, Adam moments) of dropped connections have their initial
  value. The network itself is an ordinary one; its gradients are the dense
  gradients.

  `apply_gradients` is one training iteration, as in the published code. It
  consists of `apply_masked_gradients` and `update_masks`, which loops that
  choose the kind of an iteration on the host call directly, planning with
  `steps_to_update`.

  This class never changes the masks. A method overrides `_update`, and says
  with `_is_due` and `steps_to_update` when it is due.

  Attributes:
    update_is_iteration: whether a mask update replaces a gradient step and
      needs gradients. If not, it follows a gradient step.
    starts_dense: whether `create_masks(kernels)` makes the masks that training
      starts with. If not, `sparsify` does.

  Raises:
    ValueError: if an argument is not as described.
  """

  update_is_iteration = False
  starts_dense = False

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    use_locking: bool = False,
    name: str | None = None,
    *,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
  ) -> None:
    super().__init__(
      optimizer,
      use_locking,
      name,
      weight_decay,
      weight_decay_filter,
      seed,
      mask_engine,
      structure,
    )

  def apply_gradients(
    self,
    grads_and_vars: GradsAndVars,
    global_step: Variable | None = None,
    name: str | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """One training iteration: a gradient step, a mask update, or both.

    Args:
      grads_and_vars: pairs of dense gradients of the loss and variables. In a
        replica context of `tf.distribute`, each replica's own gradients, whose
        sum is used.
      global_step: int64 variable that gradient steps advance. None: the
        optimizer's own.
      name: unused; part of the interface of `tf.compat.v1.train`.
      reduced: whether `reduce_gradients` has summed the gradients already.

    Returns:
      In a graph, the operation that does it.
    """
    self._notice_restored()
    step = self._step_variable(global_step)
    with graph_control.inside_replicas():
      if not reduced:
        grads_and_vars = self.reduce_gradients(grads_and_vars)
      return self._iterate(list(grads_and_vars), step)

  def _iterate(
    self, gradients: list[tuple[Tensor, Variable]], step: Variable
  ) -> tf.Operation | None:
    """One iteration with gradients that are already summed over replicas."""
    if self.update_is_iteration:
      return graph_control.branch(
        self._is_due(step),
        lambda: self.update_masks(gradients, step, reduced=True),
        lambda: self.apply_masked_gradients(gradients, step, reduced=True),
      )
    stepped = self.apply_masked_gradients(gradients, step, reduced=True)
    with graph_control.after(stepped):
      due = self._is_due(step)
      if due is None:
        return stepped
      return graph_control.branch(due, lambda: self.update_masks(None, step))

  def apply_masked_gradients(
    self,
    grads_and_vars: GradsAndVars,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Makes a gradient step that leaves inactive connections at zero.

    Args:
      grads_and_vars: pairs of dense gradients of the loss and variables; in a
        replica context, unless `reduced`, each replica's own.
      global_step: int64 variable to advance. None: the optimizer's own.
      reduced: whether the gradients are summed over replicas already.

    Returns:
      In a graph, the operation that does it.
    """
    self._notice_restored()
    step = self._step_variable(global_step)
    if not reduced:
      grads_and_vars = self.reduce_gradients(grads_and_vars)
    stepped = self._inner_step(self.step_gradients(grads_and_vars), step)
    return self._forget_batches(self._keep_zeros(stepped))

  def _forget_batches(
    self, stepped: tf.Operation | None
  ) -> tf.Operation | None:
    """Lets layers forget what the dense gradient of this step is made of."""
    for layer in self._layers:
      if layer.blocks is not None:
        layer.blocks.take_batches()
    compact = [la.compact for la in self._layers if la.compact is not None]
    if not compact:
      return stepped

    def forget() -> None:
      for layer in compact:
        layer.take_batches()

    if tf.executing_eagerly():
      forget()
      return stepped
    with graph_control.after(stepped):
      return tf.numpy_function(forget, [], [])

  def update_masks(
    self,
    grads_and_vars: GradsAndVars | None = None,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Updates all masks now; `steps_to_update` says when that is due.

    Args:
      grads_and_vars: pairs of dense gradients of the loss and variables.
        Needed where `update_is_iteration` is true, else unused.
      global_step: int64 variable, read only. None: the optimizer's own.
      reduced: whether the gradients are summed over replicas already.

    Returns:
      In a graph, the operation that does it.

    Raises:
      RuntimeError: if this method never updates masks.
      ValueError: if gradients are needed and missing.
    """
    self._notice_restored()
    step = self.global_step if global_step is None else global_step
    gradients = None
    if self.update_is_iteration:
      if grads_and_vars is None:
        raise ValueError(
          f"`grads_and_vars` is needed: {type(self).__name__} updates its "
          "masks by gradients."
        )
      gradients = list(grads_and_vars)
      if not reduced:
        gradients = self.reduce_gradients(gradients)
    if not tf.executing_eagerly():
      self._changed = None
      return graph_control.group(self._update_and_explore(gradients, step))
    before = [layer.snapshot() for layer in self._layers]
    self._update_and_explore(gradients, step)
    self._changed = [
      layer.count_changes(old)
      for old, layer in zip(before, self._layers, strict=True)
    ]
    return None

  def _update_and_explore(
    self, gradients: list[tuple[Tensor, Variable]] | None, step: Variable
  ) -> list[tf.Operation]:
    """The mask update; what is active before and after it is explored."""
    exploration = self._exploration
    if exploration is None:
      return self._update(gradients, step)
    # Before as well, because masks may have been assigned.
    with graph_control.after(*exploration.note(self._layers)):
      operations = self._update(gradients, step)
    with graph_control.after(*operations):
      return operations + exploration.note(self._layers)

  def _update(
    self, gradients: list[tuple[Tensor, Variable]] | None, step: Variable
  ) -> list[tf.Operation]:
    """Hook: the mask update; returns its operations.

    Args:
      gradients: those summed over replicas, if `update_is_iteration`.
      step: int64 variable or tensor, the value of `global_step`.
    """
    raise RuntimeError(f"{type(self).__name__} never updates its masks.")

  def _is_due(self, step: Variable) -> Tensor | None:
    """Hook: bool scalar, whether the masks are updated now; None for never."""
    del step
    return None

  def steps_to_update(self, step: int) -> int | None:
    """The number of gradient steps from `step` until `update_masks` is due.

    It answers on the host, between iterations.

    Args:
      step: the current value of `global_step`.

    Returns:
      0 for now, before the next gradient step; None for never.
    """
    del step
    return None

  def num_updates_before(self, step: int) -> int:
    """The number of mask updates that are scheduled at steps below `step`.

    Args:
      step: a step of a run that starts at step 0.
    """
    del step
    return 0

  def drop_fraction_at(
    self, step: Tensor | int, ops: ModuleType = np
  ) -> Tensor:
    """The share of active connections that an update at `step` drops.

    Args:
      step: numbers, or tensors together with `ops=tf`.
      ops: `numpy` or `tensorflow`.

    Returns:
      float32 in [0, 1]; 0 where nothing is dropped and grown.
    """
    del step
    return ops.zeros((), "float32")

  def mark_updated(self, step: Tensor) -> list[tf.Operation]:
    """Notes that the masks were updated, without updating them.

    A loop that plans a run ahead calls it in place of `update_masks`.

    Args:
      step: int64, the value of `global_step` at the update.

    Returns:
      The assignments.
    """
    del step
    return []
