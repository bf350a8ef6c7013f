# SPDX-License-Identifier: Apache-2.0
"""Widths of small dense and big sparse networks of a given size."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from rigl import sparse_utils


class WidthMatch(NamedTuple):
  """The width nearest to a requested size.

  Attributes:
    width: factor of the number of channels.
    stats: cost of the network of that width.
    ratio: bits of that network divided by the requested bits.
  """

  width: float
  stats: sparse_utils.Stats
  ratio: float


def width_of_size(
  layers: Any,
  bits: float,
  sparsity: float = 0.0,
  method: str = "random",
  custom_sparsities: Mapping[str, float] | None = None,
  published_rules: bool = False,
  step: float = 0.001,
  largest: float = 8.0,
) -> WidthMatch:
  """Finds the width with which a network has a given size.

  With `sparsity` 0 it is the small dense network that takes as many bits as a
  sparse one (Small-Dense), otherwise the wide sparse one that takes as many as
  a dense one (Big-Sparse).

  Args:
    layers: a list of `counting.LayerSpec`s, a Keras model or a model with a
      method `layer_specs`.
    bits: requested size in bits; positive.
    sparsity: overall share of zeros of the scaled network, in [0, 1).
    method: distribution of the sparsity, one of `sparse_utils.DISTRIBUTIONS`.
    custom_sparsities: sparsities by layer.
    published_rules: whether to count as the published code does.
    step: resolution of the width, positive.
    largest: the largest width to try.

  Returns:
    The multiple of `step` whose network is nearest in size.

  Raises:
    ValueError: if no width up to `largest` is large enough, or an argument is
      not as described.
  """
  if not bits > 0:
    raise ValueError(f"`bits` must be positive, got {bits}.")
  if not 0 < step <= largest:
    raise ValueError(f"`step` must be in (0, {largest}], got {step}.")

  @functools.cache
  def stats(number: int) -> sparse_utils.Stats:
    return sparse_utils.get_stats(
      layers,
      sparsity,
      method,
      custom_sparsities,
      width=number * step,
      published_rules=published_rules,
    )

  # Channels are rounded down, so sizes grow with the width, in steps.
  low, high = 1, round(largest / step)
  if stats(high).total_param_bits < bits:
    raise ValueError(
      f"`bits` must be at most {stats(high).total_param_bits:.0f}, those of "
      f"width {largest}, got {bits}."
    )
  while low < high:
    middle = (low + high) // 2
    if stats(middle).total_param_bits < bits:
      low = middle + 1
    else:
      high = middle
  numbers = [number for number in (low - 1, low) if number]
  best = min(numbers, key=lambda n: abs(stats(n).total_param_bits - bits))
  return WidthMatch(
    best * step, stats(best), stats(best).total_param_bits / bits
  )
