# SPDX-License-Identifier: Apache-2.0
"""Arrays of a dense layer are taken only if they belong together."""

import numpy as np
import pytest

from rigl.sparse.dense_arrays import checked_arrays

KERNEL = [[0, 2, 0], [1, 0, 3]]


def test_without_a_mask_what_is_not_zero_is_active():
  kernel, active, bias = checked_arrays(KERNEL, None, None)
  assert kernel.dtype == np.float32 and kernel.tolist() == KERNEL
  assert active.tolist() == [[False, True, False], [True, False, True]]
  assert bias is None


def test_a_mask_of_numbers_is_active_where_it_is_not_zero():
  mask = [[0.5, 0, 0], [0, -1, 0]]
  _, active, bias = checked_arrays(KERNEL, mask, [1, 2, 3])
  assert active.dtype == bool
  assert active.tolist() == [[True, False, False], [False, True, False]]
  assert bias.dtype == np.float32 and bias.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
  "kernel, mask, bias, message",
  [
    ([1, 2], None, None, r"`kernel` .* \[inputs, outputs\], got \(2,\)"),
    (KERNEL, [[1, 0, 1]], None, r"`mask` .* \(2, 3\), got \(1, 3\)"),
    (KERNEL, None, [1, 2], r"`bias` .* \(3,\), got \(2,\)"),
    (KERNEL, None, 1.0, r"`bias` .* \(3,\), got \(\)"),
  ],
)
def test_shapes_that_do_not_match_are_named(kernel, mask, bias, message):
  with pytest.raises(ValueError, match=message):
    checked_arrays(kernel, mask, bias)
