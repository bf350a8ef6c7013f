# SPDX-License-Identifier: Apache-2.0
"""Sets of positions, as ascending arrays without repetition.

NumPy's functions of sets sort or hash everything again. Two ascending arrays
need one merge: a stable sort finds both and merges them.
"""

from __future__ import annotations

import numpy as np


def union(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """The positions in at least one of two sets, ascending.

  Args:
    one: int [n], ascending.
    other: int [m], ascending, of the same dtype.
  """
  merged = np.sort(np.concatenate([one, other]), kind="stable")
  is_first = np.ones(merged.size, bool)
  np.not_equal(merged[1:], merged[:-1], out=is_first[1:])
  return merged[is_first]


def members(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
  """Which positions of a set are in a part of it, bool [n].

  Args:
    whole: int [n], ascending.
    part: int [m], positions of `whole`.
  """
  found = np.zeros(whole.size, bool)
  found[np.searchsorted(whole, part)] = True
  return found


def count_differences(one: np.ndarray, other: np.ndarray) -> int:
  """The number of positions in one of two sets, but not in both.

  Args:
    one: int [n], ascending.
    other: int [m], ascending, of the same dtype.
  """
  return 2 * union(one, other).size - one.size - other.size
