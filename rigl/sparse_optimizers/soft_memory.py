# SPDX-License-Identifier: Apache-2.0
"""Soft memory: connections grow into a surplus that the next update drops.

Yuan et al., 2021, https://arxiv.org/abs/2110.14032 (MEST, "EM&S"). New
connections train from one update to the next before they are judged by their
weights. Flat tensors in, flat tensors out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from rigl import mask_ops
from rigl.checks import check_flag
from rigl.mask_ops import DropGrow, MaskEngine
from rigl.schedules import UpdateSchedule
from rigl.types import Tensor


class Counts(NamedTuple):
  """How many connections an update keeps, and how many are active after it.

  Attributes:
    keep: int32 scalar.
    total: int32 scalar, at least `keep`.
  """

  keep: Tensor
  total: Tensor


def check_soft_memory(soft_memory: bool, schedule: UpdateSchedule) -> None:
  """Raises ValueError unless the schedule has an update that drops a surplus.

  Args:
    soft_memory: whether there is a surplus between two updates.
    schedule: when masks are updated.
  """
  check_flag("soft_memory", soft_memory)
  second = schedule.begin_step + schedule.frequency
  if soft_memory and schedule.end_step < second:
    given = schedule.end_step if schedule.end_step >= 0 else "no end"
    raise ValueError(
      f"`end_step` must be at least `begin_step` + `frequency` = {second} with "
      f"`soft_memory`, because the last update drops the surplus, got {given}."
    )


def soft_counts(
  active: Tensor,
  target: Tensor,
  size: Tensor | int,
  drop_fraction: Tensor,
  is_last: Tensor,
) -> Counts:
  """The counts of an update with soft memory.

  It keeps the target number n, and then grows the surplus:

      total = min(n + int(n * drop_fraction), size), and n in the last update.

  Args:
    active: int32 scalar, active connections before the update.
    target: int32 scalar, n: their number without a surplus.
    size: number of connections, active or not.
    drop_fraction: float32 scalar in [0, 1].
    is_last: bool scalar, whether no update follows.
  """
  surplus = tf.cast(tf.cast(target, tf.float32) * drop_fraction, tf.int32)
  total = tf.where(is_last, target, tf.minimum(target + surplus, size))
  return Counts(tf.minimum(target, active), total)


def keep_and_grow(
  engine: MaskEngine,
  drop_scores: Sequence[Tensor],
  masks: Sequence[Tensor],
  grow_scores: Sequence[Tensor],
  counts: Sequence[Counts],
) -> list[DropGrow]:
  """Keeps the connections of highest score, and grows up to a number.

  As in every drop and grow, all that are not kept can grow, those that were
  dropped just now as well.

  Args:
    engine: chooses the connections.
    drop_scores: float [n] of each layer; high values stay.
    masks: bool [n] of each layer.
    grow_scores: float [n] of each layer; high values grow.
    counts: the numbers of each layer.

  Returns:
    The result of each layer, bool [n].
  """
  kept = engine.top_k(drop_scores, [each.keep for each in counts], masks)
  grown = engine.top_k(
    grow_scores,
    [
      each.total - mask_ops.count_ones(mask)
      for each, mask in zip(counts, kept, strict=True)
    ],
    [tf.logical_not(mask) for mask in kept],
  )
  return [
    DropGrow(mask=old | new, grown=new)
    for old, new in zip(kept, grown, strict=True)
  ]
