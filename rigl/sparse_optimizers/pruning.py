"""Gradual magnitude pruning: from dense to sparse by a cubic schedule.

Nothing grows; how fast the sparsity rises is said by `PruningSchedule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.configurable import configurable
from rigl.schedules import PruningSchedule
from rigl.sparse_optimizers import base, graph_control, target_sparsity
from rigl.types import Tensor, Variable


@configurable()
class SparsePruningOptimizer(target_sparsity.TargetSparsityOptimizer):
  """Gradual pruning (Zhu & Gupta, 2017, https://arxiv.org/abs/1710.01878).

  After the gradient step of an update step (the value of `global_step` before
  it), each layer keeps its round(size * (1 - sparsity)) active connections of
  the largest |weight|.

  Note:
    The number of connections is exact; in the published code, all weights
    that equal the threshold stay.

  Args:
    optimizer: the `tf.compat.v1.train` optimizer that makes the steps.
    begin_step: first step that may prune.
    end_step: the step at which the target is reached; above `begin_step`.
    frequency: least number of steps between two updates.
    target_sparsity: final share of zeros of each layer, in [0, 1).
    mask_init_method: distribution of it, see `sparse_utils.get_sparsities`.
    custom_sparsity_map: {layer name: target} for layers that differ.
    use_locking: as in `tf.compat.v1.train.Optimizer`.
    name: name of the optimizer. None: that of the class.
    **options: `erk_power_scale`, `weight_decay`, `decays`, `seed` of
      `TargetSparsityOptimizer`.

  Raises:
    ValueError: if an argument is not as described; of the distribution, when
      the masks are created.
  """

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    begin_step: int,
    end_step: int,
    frequency: int,
    target_sparsity: float,
    mask_init_method: str = "random",
    custom_sparsity_map: Mapping[str, float] | None = None,
    use_locking: bool = False,
    name: str | None = None,
    **options: Any,
  ) -> None:
    super().__init__(
      optimizer,
      target_sparsity,
      mask_init_method,
      custom_sparsity_map,
      use_locking,
      name,
      **options,
    )
    self._schedule = PruningSchedule(
      begin_step, end_step, frequency, target_sparsity
    )
    self._last_update_step: Variable | None = None

  @property
  def schedule(self) -> PruningSchedule:
    """When updates are due and how sparse they make."""
    return self._schedule

  @property
  def last_update_step(self) -> Variable:
    """int64 variable: the step of the last update, -frequency before any."""
    if self._last_update_step is None:
      raise RuntimeError("Create the masks first, with create_masks().")
    return self._last_update_step

  def _create_state(self) -> None:
    self._last_update_step = self._new_state(
      np.int64(self._schedule.initial_last_update_step),
      "last_mask_update_step",
    )

  def steps_to_update(self, step: int) -> int | None:
    """See the base class."""
    last = int(self.last_update_step.numpy())
    due = self._schedule.next_update_step(step, last)
    return None if due is None else due + 1 - step

  def mark_updated(self, step: Tensor) -> list[tf.Operation]:
    """See the base class; what counts is the step before the last one."""
    return [self.last_update_step.assign(step - 1)]

  def _iterate(
    self, gradients: list[tuple[Tensor, Variable]], step: Variable
  ) -> tf.Operation | None:
    stepped = self.apply_masked_gradients(gradients, step, reduced=True)
    with graph_control.after(stepped):
      last = tf.convert_to_tensor(self.last_update_step)
      before = tf.cast(step, tf.int64) - 1
      return graph_control.branch(
        self._schedule.is_update_step(before, last),
        lambda: self.update_masks(None, step),
      )

  def update_masks(
    self,
    grads_and_vars: base.GradsAndVars | None = None,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Prunes to the sparsity of the step before the last gradient step.

    See the base class.
    """
    del grads_and_vars, reduced
    step = self.global_step if global_step is None else global_step
    step = tf.cast(tf.convert_to_tensor(step), tf.int64)
    operations = self.mark_updated(step)
    step = step - 1
    for layer in self.layers:
      sparsity = self._schedule.sparsity_at(
        tf.cast(step, tf.float32), tf, self._targets[layer.name]
      )
      weights, mask = (tf.reshape(v, [-1]) for v in (layer.kernel, layer.mask))
      kept = self._compiled_mask(weights, mask, sparsity)
      operations += self._assign_mask(layer, kept)
    return graph_control.group(operations)

  def _mask_flat(
    self, weights: Tensor, mask: Tensor, sparsity: Tensor
  ) -> Tensor:
    size = tf.cast(weights.shape[0], tf.float32)
    num_ones = tf.cast(tf.round(size * (1.0 - sparsity)), tf.int32)
    return mask_ops.top_k_mask(tf.abs(weights), num_ones, candidates=mask)
