# SPDX-License-Identifier: Apache-2.0
"""Selection within groups of connections, for masks with a structure.

The number of connections in every group is conserved: what a group loses by
dropping, it regains by growing. One implementation serves all engines, with
the same bits on every device.
"""

from __future__ import annotations

import tensorflow as tf

from rigl.mask_ops.keys import LOWEST_KEY
from rigl.structures import Groups
from rigl.types import Tensor

_BITS = 32


def top_k_in_groups(keys: Tensor, k: Tensor) -> Tensor:
  """The mask of the highest keys of every group.

  The bits of the k-th highest key of each group are fixed one by one, as in
  `search`, for all groups at once.

  Args:
    keys: int32 [size, groups]; `LOWEST_KEY` marks what must not be chosen.
    k: int32 scalar or [groups], how many per group; at most the other keys.

  Returns:
    bool [size, groups], ties by the lower index within the group.
  """
  k = tf.broadcast_to(k, keys.shape[1:])

  def fix_bit(i: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    candidate = threshold ^ tf.bitwise.left_shift(1, _BITS - 1 - i)
    return i + 1, tf.where(_count(keys >= candidate) >= k, candidate, threshold)

  start = (0, tf.fill(k.shape, LOWEST_KEY))
  _, threshold = tf.while_loop(lambda i, _: i < _BITS, fix_bit, start)
  above = keys > threshold
  tie = tf.equal(keys, threshold) & (keys > LOWEST_KEY)
  earlier = tf.cumsum(tf.cast(tie, tf.int32), 0)
  return above | (tie & (earlier <= k - _count(above)))


def grow_in_groups(
  mask: Tensor, kept: Tensor, grow_keys: Tensor, groups: Groups
) -> Tensor:
  """Grows as many connections in every group as it lost.

  Args:
    mask: bool [n], the connections before the drop.
    kept: bool [n], those that were not dropped.
    grow_keys: int32 [n]; the highest that are not kept grow.
    groups: the groups of the n connections.

  Returns:
    bool [n], the grown connections.
  """
  lost = _count(groups.split(mask & ~kept, tf))
  keys = groups.split(tf.where(kept, LOWEST_KEY, grow_keys), tf)
  return groups.join(top_k_in_groups(keys, lost), tf)


def _count(condition: Tensor) -> Tensor:
  """The number of true values of every group, int32 [groups]."""
  return tf.reduce_sum(tf.cast(condition, tf.int32), 0)
