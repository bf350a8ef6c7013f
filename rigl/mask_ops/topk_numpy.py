# SPDX-License-Identifier: Apache-2.0
"""Top-k by NumPy on the host: nothing to compile.

XLA needs about a second per layer size to compile the search over bits, and the
first update of a run needs all sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rigl.mask_ops.keys import LOWEST_KEY
from rigl.types import Tensor


def top_k(keys: np.ndarray, k: int) -> np.ndarray:
  """The mask of the k highest keys; of equal keys the first are chosen.

  Args:
    keys: int32 [n]; `LOWEST_KEY` marks what must not be chosen.
    k: how many, from 0 to the number of other keys.

  Returns:
    bool [n].
  """
  mask = np.zeros(keys.shape, bool)
  if k == 0:
    return mask
  candidates = np.flatnonzero(keys != LOWEST_KEY)
  if candidates.size <= keys.size // 2:  # Fewer keys to look at.
    mask[candidates] = _top_k(keys[candidates], k)
    return mask
  return _top_k(keys, k)


def _top_k(keys: np.ndarray, k: int) -> np.ndarray:
  rank = keys.size - k
  threshold = np.partition(keys, rank)[rank]
  chosen = keys > threshold
  ties = np.flatnonzero(keys == threshold)
  chosen[ties[: k - np.count_nonzero(chosen)]] = True
  return chosen


class HostRows:
  """One layer of flat keys, with the methods of `search.Rows`."""

  def lay_out(self, keys: Sequence[Tensor]) -> Tensor:
    """The flat int32 keys of the layer."""
    (flat,) = keys
    return flat

  def flatten(self, mask: Tensor) -> list[Tensor]:
    """The inverse of `lay_out`."""
    return [mask]

  def stack(self, values: Sequence[Tensor]) -> Tensor:
    """The value of the layer."""
    (value,) = values
    return value

  def top_k(self, keys: Tensor, k: Tensor) -> Tensor:
    """The mask of the k highest keys.

    Args:
      keys: int32 [n], eager or in a graph that XLA does not compile.
      k: int32 scalar.

    Returns:
      bool [n].
    """
    if tf.executing_eagerly():
      return tf.constant(top_k(keys.numpy(), int(k)))
    mask = tf.numpy_function(
      lambda keys, k: top_k(keys, int(k)), [keys, k], tf.bool, stateful=False
    )
    return tf.ensure_shape(mask, keys.shape)
