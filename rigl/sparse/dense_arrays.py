# SPDX-License-Identifier: Apache-2.0
"""Arrays of a dense layer, of which a sparse one is made."""

from __future__ import annotations

import numpy as np


def checked_arrays(
  kernel: np.ndarray, mask: np.ndarray | None, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
  """Checks that kernel, mask and bias belong together.

  Args:
    kernel: float [inputs, outputs].
    mask: the same shape, nonzero where a connection is active. None: where the
      kernel is not zero.
    bias: float [outputs]. None: no bias.

  Returns:
    The kernel as float32, the mask as bool, and the bias as float32 or None.

  Raises:
    ValueError: if the shapes do not match.
  """
  array = np.asarray(kernel, np.float32)
  if array.ndim != 2:
    raise ValueError(
      f"`kernel` must have the shape [inputs, outputs], got {array.shape}."
    )
  active = array != 0 if mask is None else np.asarray(mask) != 0
  if active.shape != array.shape:
    raise ValueError(
      f"`mask` must have the shape {array.shape}, got {active.shape}."
    )
  offset = None if bias is None else np.asarray(bias, np.float32)
  if offset is not None and offset.shape != array.shape[1:]:
    raise ValueError(
      f"`bias` must have the shape {array.shape[1:]}, got {offset.shape}."
    )
  return array, active, offset
