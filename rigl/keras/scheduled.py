# SPDX-License-Identifier: Apache-2.0
"""Mask updates: when they are due, and what they note down.

With gradient accumulation a step is `gradient_accumulation_steps` calls of
`apply`; updates happen at the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl.keras import replicas
from rigl.keras.base import SparseOptimizer
from rigl.keras.compact_layers import forget_batches
from rigl.keras.sparse_kernel import SparseKernel
from rigl.schedules.update_window import UpdateWindow
from rigl.sparse_optimizers.dense_rows import RowSignal, dense_gradient
from rigl.sparse_optimizers.sparse_layer import CompactLayer
from rigl.types import Tensor, Variable

# Name of the step of the last update, as in checkpoints of the scripts.
LAST_UPDATE = "last_mask_update_step"


class UpdatingOptimizer(SparseOptimizer):
  """A sparse optimizer that changes its masks.

  A method overrides `_update` and `_is_due`.

  Attributes:
    update_is_iteration: whether a mask update takes the place of a gradient
      step and is derived from its gradients. If not, it follows a step.
    accumulates_dense: whether the method needs the gradients of inactive
      connections, so that they are accumulated as well.
  """

  update_is_iteration = False
  accumulates_dense = False

  def _create_state(self) -> None:
    super()._create_state()
    self._num_changed = self.add_variable(
      shape=(len(self._kernels),),
      initializer=keras.initializers.Constant(-1),
      dtype="int32",
      aggregation="only_first_replica",
      name="num_changed",
    )

  def start_slots_anew(self) -> None:
    """Starts slots, and what is noted of mask updates, anew."""
    super().start_slots_anew()
    self._num_changed.assign([-1] * len(self._kernels))

  def changed_in_last_update(self) -> dict[str, int] | None:
    """The connections that the last mask update turned on or off.

    Returns:
      {path: count}; None before any update.
    """
    if not self.built:
      return None
    counts = self._num_changed.numpy().tolist()
    if max(counts) < 0:
      return None
    return {
      kernel.path: max(count, 0)
      for kernel, count in zip(self._kernels, counts, strict=True)
    }

  def _train(
    self,
    grads: Sequence[Any],
    variables: list[Variable],
    present: Mapping[str, Any],
  ) -> None:
    completes = self._completes_step()
    if self.update_is_iteration:
      tf.cond(
        self._is_due(self._step_number()) & completes,
        lambda: self._update_in_place_of_step(present),
        lambda: self._step(grads, variables, present),
      )
      return
    self._step(grads, variables, present)
    step = self._step_number()
    tf.cond(
      self._is_due(step) & completes,
      lambda: self._update(present, step),
      lambda: None,
    )

  def _step(
    self,
    grads: Sequence[Any],
    variables: list[Variable],
    present: Mapping[str, Any],
  ) -> None:
    completes = self._completes_step()
    super()._step(grads, variables, present)
    # Also those of frozen layers, through which gradients pass.
    layers = [k.compact for k in self._kernels if k.compact is not None]
    if self.needs_batches and layers:
      gradients = [tf.convert_to_tensor(each) for each in present.values()]
      forget_batches(layers, gradients, completes)
    if self.needs_batches:
      self._forget_blocks()

  def _forget_blocks(self) -> None:
    """Lets layers of blocks forget what this step's gradient is made of."""
    layers = [k.blocks for k in self._kernels if k.blocks is not None]

    def forget() -> None:
      for layer in layers:
        layer.take_batches()

    if layers:
      replicas.on_replicas(forget)

  def _step_number(self) -> Tensor:
    return tf.cast(tf.convert_to_tensor(self.iterations), tf.int64)

  def _update_in_place_of_step(self, present: Mapping[str, Any]) -> None:
    self._update(present, self._step_number())
    self._discard_accumulated()

  def _update(self, present: Mapping[str, Any], step: Tensor) -> None:
    """Hook: the mask update of the sparse variables with a gradient.

    Args:
      present: {path: gradient} of the sparse variables that have one, of all
        replicas.
      step: int64, the number of gradient steps so far.
    """
    raise NotImplementedError

  def _is_due(self, step: Tensor) -> Tensor:
    """Hook: bool scalar, whether the masks are updated at this step."""
    raise NotImplementedError

  def _note_changes(
    self, kernels: Sequence[SparseKernel], before: Sequence[Tensor]
  ) -> None:
    """Counts the connections that an update turned on or off.

    Args:
      kernels: what was updated.
      before: their snapshots from before.
    """
    counts = {
      kernel.path: kernel.count_changes(old)
      for kernel, old in zip(kernels, before, strict=True)
    }
    none = tf.constant(0)
    replicas.assign(
      self._num_changed,
      tf.stack([counts.get(kernel.path, none) for kernel in self._kernels]),
    )

  # Gradient accumulation.

  def _completes_step(self) -> Tensor:
    """Whether this call of `apply` is the last one of a step."""
    length = self.gradient_accumulation_steps or 1
    count = tf.convert_to_tensor(self.inner_optimizer._iterations)
    return tf.equal((count + 1) % length, 0)

  def _passes_whole_gradients(self) -> Tensor | None:
    """Only to accumulate them; what they add up to is masked."""
    if not self.accumulates_dense or not self.gradient_accumulation_steps:
      return None
    open_step = ~self._completes_step()
    for kernel in self._kernels:
      replicas.update(
        kernel.slots.accumulator,
        lambda total, mask, whole: total.assign(
          tf.where(mask | whole, total, tf.zeros_like(total))
        ),
        kernel.mask,
        open_step,
      )
    return open_step

  def _discard_accumulated(self) -> None:
    """Starts the step anew, because an update has used its gradients."""
    length = self.gradient_accumulation_steps
    if not length:
      return
    for total in self.inner_optimizer._accumulated_gradients:
      replicas.update(total, lambda copy: copy.assign(tf.zeros_like(copy)))
    replicas.update(
      self.inner_optimizer._iterations,
      lambda count: count.assign_sub(length - 1),
    )

  def _dense_gradient(
    self, compact: CompactLayer, positions: np.ndarray, sampled: np.ndarray
  ) -> RowSignal:
    """The gradient of a whole step of all connections of a compact layer.

    It is called on the host.

    Args:
      compact: the layer.
      positions: int32 [n], its active connections.
      sampled: [n], what `_mean_gradients` gave for them.
    """
    scale = (self.gradient_accumulation_steps or 1) * (
      self.loss_scale_factor or 1.0
    )
    return dense_gradient(compact, positions, sampled, 1.0 / scale)

  def _mean_gradients(
    self, kernels: Sequence[SparseKernel], present: Mapping[str, Any]
  ) -> list[Tensor]:
    """The gradients of a whole step, summed over replicas.

    With gradient accumulation, the mean over its calls of `apply`.
    """
    length = self.gradient_accumulation_steps
    scale = self.loss_scale_factor

    def total(gradients: Sequence[Any]) -> list[Tensor]:
      totals = []
      for kernel, gradient in zip(kernels, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient)
        if scale:
          gradient /= scale
        if length:
          before = tf.convert_to_tensor(kernel.slots.accumulator)
          gradient = (gradient + before) / length
        totals.append(gradient)
      return totals

    values = [present[kernel.path] for kernel in kernels]
    return replicas.summed(replicas.on_replicas(total, values))


class ScheduledOptimizer(UpdatingOptimizer):
  """Updates its masks by a schedule.

  Attributes:
    update_lag: gradient steps from the scheduled step to the value of
      `iterations` at the update.
  """

  update_lag = 0
  _schedule: UpdateWindow

  def _create_state(self) -> None:
    super()._create_state()
    self._last_update = self._new_counter(
      self._schedule.initial_last_update_step, LAST_UPDATE
    )

  @property
  def counters(self) -> dict[str, keras.Variable]:
    """{name in the checkpoints of the scripts: int64 scalar} of what it counts.

    `last_mask_update_step` is the step of the last mask update.
    """
    if not self.built:
      return super().counters
    return super().counters | {LAST_UPDATE: self._last_update}

  def start_slots_anew(self) -> None:
    """Starts slots, and what is noted of mask updates, anew."""
    super().start_slots_anew()
    self._last_update.assign(self._schedule.initial_last_update_step)

  def _is_due(self, step: Tensor) -> Tensor:
    last = tf.convert_to_tensor(self._last_update)
    return self._schedule.is_update_step(step - self.update_lag, last)

  def _mark_updated(self, step: Tensor) -> None:
    replicas.assign(self._last_update, step - self.update_lag)
