# SPDX-License-Identifier: Apache-2.0
"""Gradual magnitude pruning for Keras: sparser by a cubic schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from rigl.keras.kernels import Filters
from rigl.keras.scheduled import ScheduledOptimizer
from rigl.keras.sparsities import (
  Distribution,
  check_distribution,
  defaults,
)
from rigl.keras.target_sparsity import TargetSparsityOptimizer
from rigl.mask_ops import EngineName
from rigl.schedules import PruningSchedule
from rigl.structures import parse_structure
from rigl.types import Tensor


@keras.saving.register_keras_serializable(package="rigl")
class GradualPruning(ScheduledOptimizer, TargetSparsityOptimizer):
  """Gradual pruning: removes the smallest weights, ever more of them.

  Training starts dense. After the gradient step of an update step t, the value
  of `iterations` before that step, every sparse variable gets

      p        = (t - begin_step) / (end_step - begin_step), in [0, 1]
      sparsity = target * (1 - (1 - p) ** 3)
      mask     = the round(size * (1 - sparsity)) active connections of largest
                 |weight|, at least one,

  where target is what the distribution of `sparsity` gives the variable.
  Nothing grows. Zhu & Gupta, 2017, https://arxiv.org/abs/1710.01878, section 3.

  Args:
    sparsity: final share of zeros in the sparse variables, in [0, 1).
    begin_step: first step that may prune, at least 0.
    end_step: the step at which the target is reached, above `begin_step`.
    frequency: least number of steps between two updates, at least 1.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> optimizer = GradualPruning("adamw", sparsity=0.9, end_step=2000)
    >>> model.compile(optimizer, "mse")
  """

  # An update that follows the step t finds `iterations` at t + 1.
  update_lag = 1
  _schedule: PruningSchedule

  def __init__(
    self,
    optimizer: Any,
    sparsity: float | None = None,
    *,
    end_step: int,
    begin_step: int = 0,
    frequency: int = 100,
    distribution: Distribution = "uniform",
    filters: Filters = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    name: str | None = None,
    **kwargs: Any,
  ) -> None:
    parsed = parse_structure(structure)
    sparsity, distribution = defaults(sparsity, distribution, parsed)
    check_distribution(distribution, sparsity)
    schedule = PruningSchedule(begin_step, end_step, frequency, sparsity)
    super().__init__(
      optimizer,
      sparsity,
      distribution=distribution,
      filters=filters,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
      name=name,
      **kwargs,
    )
    self._schedule = schedule

  @property
  def schedule(self) -> PruningSchedule:
    """When the masks are updated, and how sparse they become."""
    return self._schedule

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    schedule = self._schedule
    return super().get_config() | {
      "begin_step": schedule.begin_step,
      "end_step": schedule.end_step,
      "frequency": schedule.frequency,
    }

  def _update(self, present: Mapping[str, Any], step: Tensor) -> None:
    self._mark_updated(step)
    before = tf.cast(step - self.update_lag, tf.float32)
    kernels = [k for k in self._kernels if k.path in present]
    inputs = [
      dict(
        weights=tf.reshape(tf.convert_to_tensor(kernel.variable), [-1]),
        mask=tf.reshape(tf.convert_to_tensor(kernel.mask), [-1]),
        sparsity=self._sparsity_at(before, kernel.sparsity),
        groups=kernel.groups,
      )
      for kernel in kernels
    ]
    self._assign_masks(kernels, self._engine.map(self._largest, inputs))

  def _sparsity_at(self, step: Tensor, target: float) -> Tensor:
    """The cubic schedule, which scales with the target of the variable."""
    if not self._schedule.target_sparsity:
      # Only a dictionary of sparsities can ask for more than none.
      schedule = dataclasses.replace(self._schedule, target_sparsity=target)
      return schedule.sparsity_at(step, tf)
    return self._schedule.sparsity_at(step, tf, target)

  def _largest(self, kernels: list[dict[str, Any]]) -> list[Tensor]:
    return self._engine.top_k(
      [tf.abs(each["weights"]) for each in kernels],
      [
        _num_ones(
          each["groups"].size if each["groups"] else each["mask"].shape[0],
          each["sparsity"],
        )
        for each in kernels
      ],
      [each["mask"] for each in kernels],
      [each["groups"] for each in kernels],
    )


def _num_ones(size: int, sparsity: Tensor) -> Tensor:
  """round(size * (1 - sparsity)), at least 1, computed in float32."""
  number = tf.round(float(size) * (1.0 - sparsity))
  return tf.cast(tf.maximum(number, 1.0), tf.int32)
