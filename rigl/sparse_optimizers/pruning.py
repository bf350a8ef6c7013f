# SPDX-License-Identifier: Apache-2.0
"""Gradual magnitude pruning: from dense to sparse by a cubic schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.configurable import configurable
from rigl.mask_ops import EngineName
from rigl.schedules import PruningSchedule
from rigl.sparse_optimizers.scheduled import ScheduledOptimizer
from rigl.sparse_optimizers.target_sparsity import TargetSparsityOptimizer
from rigl.sparse_utils.sparsities import warn_of_one_connection
from rigl.structures import Groups
from rigl.types import Tensor, Variable


@configurable(
  unrecorded=[
    "erk_power_scale",
    "weight_decay",
    "weight_decay_filter",
    "seed",
    "mask_engine",
    "structure",
  ]
)
class SparsePruningOptimizer(ScheduledOptimizer, TargetSparsityOptimizer):
  """Gradual pruning: removes the smallest weights, ever more of them.

  Training starts dense. After the gradient step of an update step t, the value
  of `global_step` before that step, every layer gets

      p        = (t - begin_step) / (end_step - begin_step), in [0, 1]
      sparsity = target * (1 - (1 - p) ** 3)
      mask     = the round(size * (1 - sparsity)) active connections of largest
                 |weight|,

  where target is what the distribution of `target_sparsity` gives the layer.
  Nothing grows.

  Zhu & Gupta, 2017, https://arxiv.org/abs/1710.01878, section 3. The number of
  connections is exact; in the published code, all weights that equal the
  threshold stay.

  Create the masks with `create_masks(kernels)`: all connections are active.

  Args:
    begin_step: first step that may prune, at least 0.
    end_step: the step at which the target is reached; above `begin_step`.
    frequency: least number of steps between two updates, at least 1.
    target_sparsity: final share of zeros over all layers, in [0, 1).
    custom_sparsity_map: {layer name: final sparsity in [0, 1)} of layers with a
      target of their own. None: there are none.

  Raises:
    ValueError: if an argument is not as described; `create_masks` raises it
      where the sparsity cannot be distributed over the layers.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparsePruningOptimizer(
    ...   inner, begin_step=0, end_step=20000, frequency=100,
    ...   target_sparsity=0.9,
    ... )
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.create_masks([kernel])
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  # An update that follows the step t finds `global_step` at t + 1.
  update_lag = 1

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
    *,
    erk_power_scale: float = 1.0,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
  ) -> None:
    TargetSparsityOptimizer.__init__(
      self,
      optimizer,
      target_sparsity,
      mask_init_method,
      custom_sparsity_map,
      use_locking,
      name,
      erk_power_scale=erk_power_scale,
      weight_decay=weight_decay,
      weight_decay_filter=weight_decay_filter,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
    )
    self._schedule: PruningSchedule = PruningSchedule(
      begin_step, end_step, frequency, target_sparsity
    )

  @property
  def schedule(self) -> PruningSchedule:
    """When the masks are updated, and how sparse they become."""
    return self._schedule

  def create_masks(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    masks: Mapping[str, Tensor] | None = None,
  ) -> None:
    """Creates the masks of these kernels, as `TargetSparsityOptimizer` does.

    A layer whose target would round to no connection keeps one, with a
    warning.

    Args:
      kernels: as for `TargetSparsityOptimizer`.
      masks: as for `TargetSparsityOptimizer`.
    """
    super().create_masks(kernels, masks)
    for layer in self.layers:
      if layer.groups is None:
        size = layer.kernel.shape.num_elements()
        target = self._targets[layer.name]
        if np.round(np.float32(size) * np.float32(1 - target)) < 1:
          warn_of_one_connection(layer.name, size, target)

  def _update(
    self, gradients: list[tuple[Tensor, Variable]] | None, step: Variable
  ) -> list[tf.Operation]:
    step = tf.cast(tf.convert_to_tensor(step), tf.int64)
    noted = self.mark_updated(step)
    before = tf.cast(step - self.update_lag, tf.float32)
    inputs = [
      dict(
        weights=tf.reshape(layer.kernel.read_value(), [-1]),
        mask=tf.reshape(layer.mask.read_value(), [-1]),
        sparsity=self._schedule.sparsity_at(
          before, tf, self._targets[layer.name]
        ),
        groups=layer.groups,
      )
      for layer in self.layers
    ]
    return noted + self._assign_masks(self._engine.map(self._largest, inputs))

  def _largest(self, layers: list[dict[str, Any]]) -> list[Tensor]:
    return self._engine.top_k(
      [tf.abs(each["weights"]) for each in layers],
      [_num_ones(**each) for each in layers],
      [each["mask"] for each in layers],
      [each["groups"] for each in layers],
    )

  def _settings(self) -> dict[str, object]:
    schedule = self._schedule
    return {
      "begin_step": schedule.begin_step,
      "end_step": schedule.end_step,
      "frequency": schedule.frequency,
      "target_sparsity": schedule.target_sparsity,
    }


def _num_ones(
  mask: Tensor, sparsity: Tensor, groups: Groups | None, **_: Any
) -> Tensor:
  """round(size * (1 - sparsity)), computed in float32, and at least 1; int32.

  The size is that of the layer, or of its groups.
  """
  size = mask.shape[0] if groups is None else groups.size
  ones = tf.cast(tf.round(float(size) * (1.0 - sparsity)), tf.int32)
  return tf.maximum(ones, 1)
