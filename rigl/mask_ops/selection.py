# SPDX-License-Identifier: Apache-2.0
"""Selection rules of mask updates: counts, top-k, drop and grow.

Functions of the flat scores and masks of some layers. A `TopK` finds the
highest keys; their number is decided here, once for all implementations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

from rigl.mask_ops.groups import grow_in_groups, top_k_in_groups
from rigl.mask_ops.keys import LOWEST_KEY, count_ones, order_keys
from rigl.structures import Groups
from rigl.types import Tensor


class DropGrow(NamedTuple):
  """The result of one drop and grow of a layer.

  Attributes:
    mask: bool, shape of the weights; the new mask.
    grown: bool, same shape; connections that the growth chose. Those that were
      inactive before are `grown & ~old_mask`.
  """

  mask: Tensor
  grown: Tensor


class TopK(Protocol):
  """Finds the highest int32 keys of some layers.

  A value per layer is a scalar where there is one layer, else [layers].
  """

  def lay_out(self, keys: Sequence[Tensor]) -> Tensor:
    """Stores flat int32 keys, one tensor per layer, in one tensor."""

  def flatten(self, mask: Tensor) -> list[Tensor]:
    """The inverse of `lay_out`: one flat tensor per layer."""

  def stack(self, values: Sequence[Tensor]) -> Tensor:
    """Makes a value per layer of scalars."""

  def top_k(self, keys: Tensor, k: Tensor) -> Tensor:
    """The bool mask of the k highest `keys`, k being a value per layer."""


def keep_and_drop_counts(
  num_ones: Tensor, drop_fraction: Tensor
) -> tuple[Tensor, Tensor]:
  """The rule of counts of an update: how many connections stay and go.

  n_drop = int(float32(n_ones) * drop_fraction), computed in float32 and
  truncated; n_keep = n_ones - n_drop. As many connections grow as are dropped.

  Args:
    num_ones: int32, active connections of one or several layers.
    drop_fraction: float32 scalar in [0, 1].

  Returns:
    n_keep and n_drop, int32.
  """
  num_drop = tf.cast(tf.cast(num_ones, tf.float32) * drop_fraction, tf.int32)
  return num_ones - num_drop, num_drop


def top_k(
  method: TopK,
  scores: Sequence[Tensor],
  k: Sequence[Tensor],
  candidates: Sequence[Tensor | None],
) -> list[Tensor]:
  """The masks of the highest scores of the layers.

  Args:
    method: finds the highest keys.
    scores: [n] of each layer, n of at least 1.
    k: int32 scalar of each layer; clipped to the number of candidates.
    candidates: bool [n] of each layer, or None for all.

  Returns:
    bool [n] of each layer.
  """
  keys, counts = [], []
  for each, count, allowed in zip(scores, k, candidates, strict=True):
    key, available = order_keys(each), tf.constant(each.shape[0])
    if allowed is not None:
      key = tf.where(allowed, key, LOWEST_KEY)
      available = count_ones(allowed)
    keys.append(key)
    counts.append(tf.clip_by_value(count, 0, available))
  chosen = method.top_k(method.lay_out(keys), method.stack(counts))
  return method.flatten(chosen)


def drop_and_grow(
  method: TopK,
  drop_scores: Sequence[Tensor],
  masks: Sequence[Tensor],
  grow_scores: Sequence[Tensor],
  drop_fraction: Tensor,
) -> list[DropGrow]:
  """Drops the lowest active connections and grows as many of the highest.

  Args:
    method: finds the highest keys.
    drop_scores: float [n] of each layer, n of at least 1; high values stay.
    masks: bool [n] of each layer.
    grow_scores: float or int32 [n] of each layer; high values grow, among all
      connections that are not kept.
    drop_fraction: float32 scalar in [0, 1], of all layers.

  Returns:
    The result of each layer, bool [n].
  """
  drop_keys = [
    tf.where(mask, order_keys(scores), LOWEST_KEY)
    for scores, mask in zip(drop_scores, masks, strict=True)
  ]
  grow_keys = method.lay_out([order_keys(scores) for scores in grow_scores])
  num_keep, num_drop = keep_and_drop_counts(
    method.stack([count_ones(mask) for mask in masks]), drop_fraction
  )
  kept = method.top_k(method.lay_out(drop_keys), num_keep)
  grown = method.top_k(tf.where(kept, LOWEST_KEY, grow_keys), num_drop)
  return [
    DropGrow(mask=new, grown=chosen)
    for new, chosen in zip(
      method.flatten(kept | grown), method.flatten(grown), strict=True
    )
  ]


def top_k_of_groups(
  scores: Tensor, k: Tensor, candidates: Tensor | None, groups: Groups
) -> Tensor:
  """The mask of the highest scores of every group of a layer.

  Args:
    scores: [n] of the layer, n of at least 1.
    k: int32 scalar, ones per group; clipped to the group's candidates.
    candidates: bool [n], or None for all.
    groups: the groups of the n connections.

  Returns:
    bool [n].
  """
  keys = order_keys(scores)
  if candidates is not None:
    keys = tf.where(candidates, keys, LOWEST_KEY)
  keys = groups.split(keys, tf)
  available = tf.reduce_sum(tf.cast(keys > LOWEST_KEY, tf.int32), 0)
  chosen = top_k_in_groups(keys, tf.clip_by_value(available, 0, k))
  return groups.join(chosen, tf)


def drop_and_grow_of_groups(
  method: TopK,
  drop_scores: Tensor,
  mask: Tensor,
  grow_scores: Tensor,
  drop_fraction: Tensor,
  groups: Groups,
) -> DropGrow:
  """Drops over a whole layer, and grows in the groups that lost connections.

  As many connections are dropped as without groups, those of the lowest score
  of the layer; every group regains its number by its highest growth scores.

  Args:
    method: finds the highest keys of the layer.
    drop_scores: float [n] of the layer, n of at least 1; high values stay.
    mask: bool [n].
    grow_scores: float or int32 [n]; high values grow.
    drop_fraction: float32 scalar in [0, 1].
    groups: the groups of the n connections.

  Returns:
    The result, bool [n].
  """
  keys = tf.where(mask, order_keys(drop_scores), LOWEST_KEY)
  num_keep, _ = keep_and_drop_counts(
    method.stack([count_ones(mask)]), drop_fraction
  )
  (kept,) = method.flatten(method.top_k(method.lay_out([keys]), num_keep))
  grown = grow_in_groups(mask, kept, order_keys(grow_scores), groups)
  return DropGrow(mask=kept | grown, grown=grown)
