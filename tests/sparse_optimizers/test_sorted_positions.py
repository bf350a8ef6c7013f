# SPDX-License-Identifier: Apache-2.0
"""Sets of positions against Python's sets."""

import numpy as np
import pytest

from rigl.sparse_optimizers import sorted_positions

SETS = [
  ([], []),
  ([], [0]),
  ([3], [3]),
  ([0, 2, 4], [1, 3, 5]),
  ([0, 1, 2], [1]),
  ([5, 2**31 - 2], [0, 5]),
]


def random_sets(seed):
  rng = np.random.default_rng(seed)
  return [
    np.flatnonzero(rng.uniform(size=500) < p).tolist() for p in (0.3, 0.6)
  ]


@pytest.mark.parametrize(
  ("one", "other"), [*SETS, *(random_sets(seed) for seed in range(3))]
)
def test_sets_are_those_of_python(one, other):
  arrays = np.array(one, np.int32), np.array(other, np.int32)
  whole = sorted_positions.union(*arrays)
  assert whole.tolist() == sorted({*one, *other})
  assert whole.dtype == np.int32
  found = sorted_positions.members(whole, arrays[0])
  assert found.tolist() == [each in one for each in whole]
  assert sorted_positions.count_differences(*arrays) == len({*one} ^ {*other})
