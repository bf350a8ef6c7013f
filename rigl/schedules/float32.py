# SPDX-License-Identifier: Apache-2.0
"""float32 numbers, computed alike with NumPy and inside a TensorFlow graph."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# float32 on the host too, whatever the promotion rules of this NumPy.
ZERO = np.float32(0)
HALF = np.float32(0.5)
ONE = np.float32(1)
PI = np.float32(math.pi)


def to_float32(value: Any, ops: Any) -> Any:
  """Converts to float32.

  Args:
    value: number, array or tensor.
    ops: `numpy` or `tensorflow`.
  """
  # Only TensorFlow has no `asarray`.
  if hasattr(ops, "asarray"):
    return ops.asarray(value, "float32")
  return ops.cast(value, "float32")


def unwrap(value: Any) -> Any:
  """A NumPy scalar for a 0-d array; everything else unchanged."""
  return value[()] if isinstance(value, np.ndarray) else value
