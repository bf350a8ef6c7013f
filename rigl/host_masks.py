"""Drop and grow on the host: exact top-k by NumPy, nothing to compile.

The results are those of `mask_ops.drop_and_grow`, whose integer keys these
functions take. XLA needs about a second for each size of layer to compile the
search there, a run's first update all of them.
"""

from __future__ import annotations

import numpy as np

# Below every key of a real score, as in `mask_ops`.
LOWEST_KEY = -(2**31)


def drop_and_grow(
  drop_keys: np.ndarray,
  mask: np.ndarray,
  grow_keys: np.ndarray,
  drop_fraction: float,
) -> tuple[np.ndarray, np.ndarray]:
  """Drops the lowest active connections and grows as many of the highest.

  Args:
    drop_keys: int32 [n], of `mask_ops.order_keys`; large ones are kept.
    mask: bool [n], the current mask.
    grow_keys: int32 [n]; large ones grow.
    drop_fraction: in [0, 1].

  Returns:
    The new mask and what was grown, bool [n] each.
  """
  num_ones = int(np.count_nonzero(mask))
  num_prune = int(np.float32(num_ones) * np.float32(drop_fraction))
  active = np.flatnonzero(mask)
  kept = np.zeros(mask.shape, bool)
  kept[active] = top_k(drop_keys[active], num_ones - num_prune)
  grown = top_k(np.where(kept, np.int32(LOWEST_KEY), grow_keys), num_prune)
  return kept | grown, grown


def top_k(keys: np.ndarray, k: int) -> np.ndarray:
  """The mask of the k highest keys; of equal ones the first are taken.

  Args:
    keys: int32 [n].
    k: how many, in [0, n].

  Returns:
    bool [n].
  """
  if k == 0:
    return np.zeros(keys.shape, bool)
  place = keys.size - k
  threshold = np.partition(keys, place)[place]
  chosen = keys > threshold
  ties = np.flatnonzero(keys == threshold)
  chosen[ties[: k - np.count_nonzero(chosen)]] = True
  return chosen
