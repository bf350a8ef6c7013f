# SPDX-License-Identifier: Apache-2.0
"""The rule of GraNet: how many connections stay, and global pruning.

Flat tensors in, flat tensors out; the wrappers of `tf.compat.v1.train` and of
Keras optimizers share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import tensorflow as tf

from rigl.checks import check_integer, check_number
from rigl.mask_ops import MaskEngine
from rigl.schedules import PruningSchedule, UpdateSchedule
from rigl.structures import Groups
from rigl.types import Tensor


def pruning_schedule(
  updates: UpdateSchedule,
  target_sparsity: float,
  initial_sparsity: float,
  end_step: int | None = None,
) -> PruningSchedule:
  """The cubic schedule of the sparsity, over the steps of the updates.

  It ends at an update, so that the target is always reached.

  Args:
    updates: when masks are updated.
    target_sparsity: final share of zeros, in [0, 1).
    initial_sparsity: first share of zeros, in [0, target_sparsity].
    end_step: last step that may prune. None: that of the updates.

  Raises:
    ValueError: if a sparsity or step is out of its range, or there are no two
      updates.
  """
  check_number("target_sparsity", target_sparsity, 0, 1, below=True)
  begin, frequency = updates.begin_step, updates.frequency
  if updates.end_step < begin + frequency:
    raise ValueError(
      "`end_step` must be at least `begin_step` + `frequency` = "
      f"{begin + frequency}, because the sparsity rises until then, got "
      f"{updates.end_step}."
    )
  if end_step is None:
    end_step = updates.end_step
  check_integer("pruning_end_step", end_step)
  if not begin + frequency <= end_step <= updates.end_step:
    raise ValueError(
      "`pruning_end_step` must be in [`begin_step` + `frequency`, `end_step`] "
      f"= [{begin + frequency}, {updates.end_step}], got {end_step}."
    )
  last = begin + (end_step - begin) // frequency * frequency
  return PruningSchedule(
    begin, last, frequency, target_sparsity, initial_sparsity
  )


def check_start(initial_sparsity: float, structure: str | None) -> None:
  """Raises ValueError if masks with a structure would not start dense.

  Args:
    initial_sparsity: first share of zeros.
    structure: the structure of the masks; None: they have none.
  """
  if structure is not None and initial_sparsity:
    raise ValueError(
      "`initial_sparsity` must be 0 with a `structure`, got "
      f"{initial_sparsity:g}."
    )


def pruned_masks(
  engine: MaskEngine,
  schedule: PruningSchedule,
  step: Tensor,
  weights: Sequence[Tensor],
  masks: Sequence[Tensor],
  groups: Sequence[Groups | None],
  targets: Sequence[float],
  starts: Sequence[float],
) -> list[Tensor]:
  """The masks after the pruning of an update.

  Layers whose target is 0 stay as they are. Of the others together, of N
  connections, the round(N * (1 - s)) of largest magnitude stay, and in each at
  least the largest, where s goes from the mean of `starts`, weighted by size,
  to that of `targets`, by the schedule. Layers with groups are pruned by
  themselves: of the m connections of a group, round(m * (1 - s)) stay, and at
  least one, where s is that of the layer.

  Args:
    engine: chooses the connections.
    schedule: the cubic schedule.
    step: float32 scalar.
    weights: [n] of each layer.
    masks: bool [n] of each layer; what is inactive stays so.
    groups: the groups of each layer, or None.
    targets: final sparsity of each layer.
    starts: initial sparsity of each layer.
  """
  result = list(masks)
  open_layers = [i for i, own in enumerate(groups) if own is None]
  chosen = [i for i in open_layers if targets[i] > 0]
  for i, own in enumerate(groups):
    if own is not None:
      sparsity = _scaled(schedule, targets[i], starts[i]).sparsity_at(step, tf)
      scores = tf.abs(tf.cast(weights[i], tf.float32))
      number = _remaining(own.size, sparsity, 1)
      result[i] = engine.top_k([scores], [number], [masks[i]], [own])[0]
  if not chosen:
    return result
  sizes = [int(masks[i].shape[0]) for i in chosen]
  total = sum(sizes)
  target, start = (
    sum(size * shares[i] for size, i in zip(sizes, chosen, strict=True)) / total
    for shares in (targets, starts)
  )
  sparsity = _scaled(schedule, target, start).sparsity_at(step, tf)
  scores = tf.concat([_scores(weights[i], masks[i]) for i in chosen], 0)
  active = tf.concat([masks[i] for i in chosen], 0)
  number = _remaining(total, sparsity, len(chosen))
  kept = tf.split(engine.top_k([scores], [number], [active])[0], sizes)
  for i, mask in zip(chosen, kept, strict=True):
    result[i] = mask
  return result


def _scaled(
  schedule: PruningSchedule, target: float, start: float
) -> PruningSchedule:
  """The same steps, between other sparsities."""
  # A mean of equal numbers may round to another one.
  start = min(start, target)
  return replace(schedule, target_sparsity=target, initial_sparsity=start)


def _remaining(size: int, sparsity: Tensor, least: int) -> Tensor:
  """round(size * (1 - sparsity)), computed in float32, at least `least`."""
  number = tf.cast(tf.round(float(size) * (1.0 - sparsity)), tf.int32)
  return tf.maximum(number, least)


def _scores(weights: Tensor, mask: Tensor) -> Tensor:
  """Magnitudes; that of the largest active weight of the layer is infinite."""
  magnitudes = tf.abs(tf.cast(weights, tf.float32))
  allowed = tf.where(mask, magnitudes, tf.constant(-1.0))
  is_largest = tf.equal(allowed, tf.reduce_max(allowed))
  # The first of equal ones, on every device.
  places = tf.range(magnitudes.shape[0], dtype=tf.int32)
  first = tf.reduce_min(tf.where(is_largest, places, magnitudes.shape[0]))
  infinite = tf.constant(float("inf"))
  return tf.where(tf.equal(places, first), infinite, magnitudes)
