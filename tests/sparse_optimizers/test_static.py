# SPDX-License-Identifier: Apache-2.0
"""Static: masks stay, the smallest weights start anew."""

import numpy as np
from sparse_methods import Run

FRACTION = 0.4


def test_masks_never_change():
  run = Run("static")
  before = run.masks()
  run.train(12)
  assert run.last_update() == 11
  for a, b in zip(before, run.masks(), strict=True):
    np.testing.assert_array_equal(a, b)


def test_the_smallest_active_weights_start_anew():
  run = Run("static", grow_init="zeros", noise_std=0.0)
  run.train(1)
  stepped = Run("scratch").train(1)
  for i, mask in enumerate(run.masks()):
    before = stepped.kernels()[i]
    n_prune = int(np.float32(np.count_nonzero(mask)) * np.float32(FRACTION))
    bound = np.sort(np.abs(before[mask]))[n_prune]
    small = mask & (np.abs(before) < bound)
    assert np.count_nonzero(small) == n_prune
    expected = np.where(small, 0.0, before)
    np.testing.assert_array_equal(run.kernels()[i], expected)
    slot = np.where(small, 0.0, stepped.slots()["momentum"][i])
    np.testing.assert_array_equal(run.slots()["momentum"][i], slot)
