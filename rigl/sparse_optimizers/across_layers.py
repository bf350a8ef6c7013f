# SPDX-License-Identifier: Apache-2.0
"""Drop and grow over all layers at once, with a floor for each layer.

The exploration of Yin et al., 2023, https://arxiv.org/abs/2305.19454 (Chase),
whose scores are compared over the whole network. Flat tensors in, flat tensors
out.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rigl import mask_ops
from rigl.mask_ops import DropGrow, MaskEngine
from rigl.sparse_optimizers.soft_memory import Counts, keep_and_grow
from rigl.types import Tensor


def totals_of(
  active: Sequence[Tensor], targets: Sequence[Tensor], sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
  """Sums over layers, where those that were given everything stand aside.

  Args:
    active: int32 scalars, the active connections of each layer.
    targets: int32 scalars, the number that each layer was given.
    sizes: number of connections of each layer, active or not.

  Returns:
    int32 scalars: the active connections of the layers that were given all of
    their connections; then of the others, active, given and all connections.
  """
  dense, totals = [], []
  for ones, target, size in zip(active, targets, sizes, strict=True):
    is_open = tf.cast(target < size, tf.int32)
    dense.append(ones * (1 - is_open))
    totals.append(tf.stack([ones, target, size]) * is_open)
  sums = tf.unstack(tf.add_n(totals))
  return tf.add_n(dense), sums[0], sums[1], sums[2]


def floors_of(
  targets: Sequence[Tensor], sizes: Sequence[int], layer_floor: float
) -> list[Tensor]:
  """The least number of connections of each layer: int(n * floor), at least 1.

  A layer that was given none has no least number, and one that was given all of
  its connections keeps them: the floors never ask for more than was given.

  Args:
    targets: int32 scalars, the number n of connections that each layer was
      given.
    sizes: number of connections of each layer, active or not.
    layer_floor: share of n, in [0, 1].
  """
  floor = tf.constant(layer_floor, tf.float32)
  shares = [
    tf.cast(tf.cast(target, tf.float32) * floor, tf.int32) for target in targets
  ]
  return [
    tf.where(target < size, tf.minimum(tf.maximum(share, 1), target), target)
    for target, size, share in zip(targets, sizes, shares, strict=True)
  ]


def keep_and_grow_across(
  engine: MaskEngine,
  drop_scores: Sequence[Tensor],
  masks: Sequence[Tensor],
  grow_scores: Sequence[Tensor],
  counts: Counts,
  floors: Sequence[Tensor],
) -> list[DropGrow]:
  """`soft_memory.keep_and_grow` of all layers together.

  The connections of highest score of each layer, as many as its floor, are
  kept before all others.

  Args:
    engine: chooses the connections.
    drop_scores: float32 [n] of each layer; high values stay.
    masks: bool [n] of each layer.
    grow_scores: float [n] of each layer; high values grow.
    counts: the numbers of all layers together; more are kept where the floors
      ask for it.
    floors: int32 scalars, the least number of each layer.

  Returns:
    The result of each layer, bool [n].
  """
  safe = engine.top_k(drop_scores, floors, masks)
  infinite = tf.constant(float("inf"))
  scores = [
    tf.where(first, infinite, tf.cast(own, tf.float32))
    for first, own in zip(safe, drop_scores, strict=True)
  ]
  num_safe = tf.add_n([mask_ops.count_ones(first) for first in safe])
  growth = [tf.cast(own, tf.float32) for own in grow_scores]
  whole = keep_and_grow(
    engine,
    [tf.concat(scores, 0)],
    [tf.concat(list(masks), 0)],
    [tf.concat(growth, 0)],
    [Counts(tf.maximum(counts.keep, num_safe), counts.total)],
  )[0]
  sizes = [mask.shape[0] for mask in masks]
  return [
    DropGrow(mask=mask, grown=grown)
    for mask, grown in zip(
      tf.split(whole.mask, sizes), tf.split(whole.grown, sizes), strict=True
    )
  ]
