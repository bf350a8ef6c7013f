# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments: each raises a ValueError that names the argument."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any


def is_finite(value: Any) -> bool:
  """Whether a value is a number, other than a bool, that a float can hold."""
  if not isinstance(value, numbers.Real) or isinstance(value, bool):
    return False
  try:
    return math.isfinite(value)
  except OverflowError:  # An integer of hundreds of digits.
    return False


def check_number(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  *,
  above: bool = False,
  below: bool = False,
) -> None:
  """Raises a ValueError unless a value is a finite number in an interval.

  Args:
    name: name of the argument.
    value: its value; numbers of Python and NumPy are allowed, bools are not.
    low: lower bound.
    high: upper bound.
    above: whether the value must be above `low`, and not `low` itself.
    below: whether the value must be below `high`, and not `high` itself.
  """
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if (
    is_finite(value)
    and (value > low if above else value >= low)
    and (value < high if below else value <= high)
  ):
    return
  bounds = _bounds(low, high, above, below)
  what = bounds if is_number else f"a number, {bounds}"
  raise ValueError(f"`{name}` must be {what}, got {value!r}.")


def _bounds(low: float, high: float, above: bool, below: bool) -> str:
  if math.isfinite(low) and math.isfinite(high):
    opening, closing = "(" if above else "[", ")" if below else "]"
    return f"in {opening}{low:g}, {high:g}{closing}"
  if math.isfinite(low):
    return f"{'>' if above else '>='} {low:g} and finite"
  return "finite"


def check_integer(name: str, value: Any, minimum: float = -math.inf) -> None:
  """Raises a ValueError unless a value is an integer of at least `minimum`.

  Args:
    name: name of the argument.
    value: its value; integers of Python and NumPy are allowed, bools are not.
    minimum: the lower bound.
  """
  is_integer = isinstance(value, numbers.Integral)
  if is_integer and not isinstance(value, bool) and int(value) >= minimum:
    return
  bound = f" of at least {minimum}" if minimum > -math.inf else ""
  raise ValueError(f"`{name}` must be an integer{bound}, got {value!r}.")


def check_flag(name: str, value: Any) -> None:
  """Raises a ValueError unless a value is True or False.

  Args:
    name: name of the argument.
    value: its value.
  """
  if not isinstance(value, bool):
    raise ValueError(f"`{name}` must be True or False, got {value!r}.")


def check_numbers(name: str, values: Any) -> None:
  """Raises a ValueError unless a value is a sequence of numbers."""
  try:
    if not all(isinstance(value, numbers.Real) for value in values):
      raise TypeError
  except TypeError:
    raise ValueError(
      f"`{name}` must be a sequence of numbers, got {values!r}."
    ) from None


def check_mapping(name: str, value: Any, what: str) -> None:
  """Raises a ValueError unless a value is a mapping.

  Args:
    name: name of the argument.
    value: its value.
    what: what the mapping holds, such as `{layer name: sparsity}`.
  """
  if not isinstance(value, Mapping):
    raise ValueError(
      f"`{name}` must be a mapping {what}, got {describe(value)}."
    )


def describe(value: Any) -> str:
  """A short text of a value for an error: its type, and the value if short."""
  text = repr(value)
  kind = type(value).__name__
  return f"{kind} {text}" if len(text) <= 60 and "\n" not in text else kind
