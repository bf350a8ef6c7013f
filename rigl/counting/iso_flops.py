# SPDX-License-Identifier: Apache-2.0
"""Widths of sparse networks that cost as much as a dense one of width 1.

Sparse-IFT (Saxena et al., 2023, https://arxiv.org/abs/2303.11525) spends the
FLOPs that sparsity saves on more channels. In its transformation Sparse Wide,
a network is k times as wide. A kernel whose inputs and outputs both are has k^2
times the weights, of which 1 - s are left:

  k^2 (1 - s) = 1, hence k = 1 / sqrt(1 - s)

That is not exact: images and classes are as many as before, activations and
biases grow by k, sparsity differs from layer to layer, and channels are whole
numbers. `iso_flops_width` solves it for the real count.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_STEPS = 10_000  # Widths are multiples of 1 / _STEPS.


class UnreachableError(ValueError):
  """No width costs as much as asked for."""


def iso_flops_width(
  flops: Callable[[float], float], budget: float, largest: float = 1000.0
) -> float:
  """The width at which a network costs a budget of FLOPs, by bisection.

  As the number of channels is rounded, the cost rises in steps. The result is
  of the widest network found that costs at most the budget, while one that is
  slightly wider costs more.

  >>> iso_flops_width(lambda width: int(64 * width) ** 2, 4 * 64**2)
  2.0

  Args:
    flops: returns FLOPs by the factor of the number of channels, which rise
      with it.
    budget: FLOPs, at least those of the width 1.
    largest: width up to which to look, at least 1.

  Returns:
    The smallest factor with these numbers of channels, rounded up to a
    multiple of 0.0001.

  Raises:
    UnreachableError: if no width up to `largest` costs more than the budget.
    ValueError: if an argument is out of its range.
  """
  if not 0 < budget < math.inf:
    raise ValueError(f"`budget` must be positive and finite, got {budget}.")
  if not 1 <= largest < math.inf:
    raise ValueError(f"`largest` must be at least 1 and finite, got {largest}.")

  def cost(number: int) -> float:
    return flops(number / _STEPS)

  low = _STEPS
  if cost(low) == budget:
    return 1.0
  if cost(low) > budget:
    raise ValueError(
      f"`budget` must be at least the {cost(low):.6g} FLOPs at the width 1, "
      f"got {budget:.6g}."
    )
  end = int(largest * _STEPS)
  high = low
  while cost(high) <= budget:
    if high == end:
      raise UnreachableError(
        f"`budget` must be less than the {cost(end):.6g} FLOPs at the width "
        f"{largest:g}, got {budget:.6g}."
      )
    low, high = high, min(2 * high, end)
  low = _last(lambda number: cost(number) <= budget, low, high)
  best = cost(low)
  # Of the widths with the same channels, the smallest.
  if cost(_STEPS) == best:
    return 1.0
  return (_last(lambda number: cost(number) < best, _STEPS, low) + 1) / _STEPS


def _last(holds: Callable[[int], bool], low: int, high: int) -> int:
  """A number in [low, high) that holds and whose successor does not.

  Args:
    holds: true of `low` and false of `high`.
    low: the smallest number.
    high: the end, more than `low`.
  """
  while high - low > 1:
    middle = (low + high) // 2
    if holds(middle):
      low = middle
    else:
      high = middle
  return low
