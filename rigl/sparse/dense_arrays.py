# SPDX-License-Identifier: Apache-2.0
"""Checks of what sparse layers are made of, and of their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.types import Tensor


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


def check_dtype(dtype: Any, allowed: Sequence[str]) -> None:
  """Raises ValueError unless `dtype` is one of those that are allowed.

  Args:
    dtype: its name, or a dtype of TensorFlow or NumPy.
    allowed: names of dtypes, at least two.
  """
  try:
    name = tf.as_dtype(dtype).name
  except TypeError:
    name = ""
  if name not in allowed:
    *others, last = allowed
    raise ValueError(
      f"`dtype` must be {', '.join(others)} or {last}, got {dtype!r}."
    )


def check_float(x: Tensor) -> None:
  """Raises ValueError unless the input of a layer is a float tensor."""
  if not x.dtype.is_floating:
    raise ValueError(f"`x` must be float, got {x.dtype.name}.")
