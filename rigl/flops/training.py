# SPDX-License-Identifier: Apache-2.0
"""The cost of the training that the flags of `rigl-flops` describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rigl import counting
from rigl.counting import soft_memory, training_flops
from rigl.flops.sparsities import backward_sparsities
from rigl.schedules import PruningSchedule, UpdateSchedule


def forward_flops(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  sparsities: Mapping[str, float],
) -> float:
  """FLOPs of the forward pass of one example.

  Args:
    values: object with the flags as attributes.
    layers: the layers.
    sparsities: the sparsity of each layer.
  """
  counted = counting.count_layers(
    layers, sparsities, values.param_size, values.published_rules
  )
  return counting.total_count(counted).flops


def training_cost(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  asked: Mapping[str, float],
  sparsity: float,
) -> training_flops.TrainingCost:
  """Cost of training, by the method and schedules of the flags.

  Args:
    values: object with the flags as attributes.
    layers: the layers.
    asked: the sparsity of each layer of the trained network.
    sparsity: share of zeros of the trained network.

  Raises:
    ValueError: if a flag is out of its range.
  """

  def flops(share: float) -> float:
    """FLOPs of the forward pass with a share of the sparsities."""
    sparsities = {name: share * value for name, value in asked.items()}
    return forward_flops(values, layers, sparsities)

  method, mean = values.training_method, None
  if method in (training_flops.PRUNE, training_flops.GRANET):
    # GraNet prunes in every mask update.
    by_mask_updates = method == training_flops.GRANET
    schedule = PruningSchedule(
      values.sparsity_begin_step,
      values.sparsity_end_step,
      values.maskupdate_frequency
      if by_mask_updates
      else values.pruning_frequency,
      sparsity,
      values.initial_sparsity if by_mask_updates else 0.0,
    )
    mean = training_flops.mean_over_pruning(
      lambda part: flops(part / (sparsity or 1.0)),
      schedule,
      values.train_steps,
      schedule.initial_sparsity,
    )
  return training_flops.training_cost(
    method,
    flops(0.0),
    flops(1.0),
    values.train_steps,
    values.train_batch_size,
    values.training_steps_multiplier,
    values.maskupdate_frequency,
    mean,
    values.grow_batches,
    backward=_backward_flops(values, layers, asked),
    surplus_mean=_surplus_mean(values, layers, asked),
    drop_gradient_weight=values.drop_gradient_weight,
  )


def _backward_flops(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  asked: Mapping[str, float],
) -> float | None:
  """FLOPs with the weights that Top-KAST trains; None for other methods."""
  if values.training_method != training_flops.TOP_KAST:
    return None
  trained = backward_sparsities(values, layers, asked)
  return forward_flops(values, layers, trained)


def _surplus_mean(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  asked: Mapping[str, float],
) -> float | None:
  """Mean of FLOPs over training with soft memory; None without."""
  if not values.soft_memory:
    return None
  schedule = UpdateSchedule(
    values.maskupdate_begin_step,
    values.maskupdate_end_step,
    values.maskupdate_frequency,
    values.drop_fraction,
    values.drop_fraction_anneal,
  )

  def flops(surplus: float) -> float:
    return forward_flops(
      values, layers, soft_memory.with_surplus(asked, surplus)
    )

  return soft_memory.mean_over_surplus(flops, schedule, values.train_steps)
