# SPDX-License-Identifier: Apache-2.0
"""Verification: an exported file computes what TensorFlow computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Largest difference of a float32 result, where results are up to 1.
FLOAT32_TOLERANCE = 1e-5
# Largest differences as a share of the range of the results.
FLOAT16_SHARE = 1e-2
INT8_SHARE = 0.25


class Difference(NamedTuple):
  """Difference of two networks' results.

  Attributes:
    largest: the largest one of any value.
    tolerance: the largest one that is allowed.
    agreement: share of examples whose largest result is at the same place.
  """

  largest: float
  tolerance: float
  agreement: float

  @property
  def is_small(self) -> bool:
    """Whether the difference is allowed."""
    return bool(self.largest <= self.tolerance)  # False for NaN.

  def __str__(self) -> str:
    return (
      f"largest difference to TensorFlow {self.largest:.2g}, allowed "
      f"{self.tolerance:.2g}; same class for {self.agreement:.0%}"
    )


def compare(
  found: Mapping[str, np.ndarray],
  expected: Mapping[str, np.ndarray],
  dtype: str = "float32",
) -> Difference:
  """Compares results by name.

  Args:
    found: results of the exported file.
    expected: results of TensorFlow. Classes, which are integers, are not
      compared: they follow from the others.
    dtype: type of the weights in the file: `float32`, `float16` or `int8`.

  Raises:
    ValueError: if names or shapes differ, or there is no float result.
  """
  floats = {n: v for n, v in expected.items() if v.dtype.kind == "f"}
  if not floats:
    raise ValueError("A network without float results cannot be verified.")
  differences = []
  for name, value in floats.items():
    other = found.get(name)
    if other is None or other.shape != value.shape:
      shape = None if other is None else other.shape
      raise ValueError(
        f"The exported file must return {name!r} of shape {value.shape}, got "
        f"{shape}."
      )
    differences.append(_difference(other, value, dtype))
  return max(differences, key=_severity)


def _difference(
  found: np.ndarray, expected: np.ndarray, dtype: str
) -> Difference:
  if not expected.size:
    return Difference(0.0, 1.0, 1.0)
  wide = expected.astype(np.float64)
  largest = float(np.max(np.abs(found.astype(np.float64) - wide)))
  if dtype == "float32":
    tolerance = FLOAT32_TOLERANCE * max(1.0, float(np.max(np.abs(wide))))
  else:
    share = FLOAT16_SHARE if dtype == "float16" else INT8_SHARE
    tolerance = share * float(np.max(wide) - np.min(wide))
  rows = (found.reshape(len(found), -1), expected.reshape(len(expected), -1))
  same = rows[0].argmax(1) == rows[1].argmax(1)
  return Difference(largest, tolerance, float(np.mean(same)))


def _severity(difference: Difference) -> float:
  if np.isnan(difference.largest):
    return np.inf
  if not difference.tolerance:
    return np.inf if difference.largest else 0.0
  return difference.largest / difference.tolerance
