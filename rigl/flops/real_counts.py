# SPDX-License-Identifier: Apache-2.0
"""Counts of networks whose layers have sparsities that a file tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rigl import counting


def count_with_sparsities(
  layers: Sequence[counting.LayerSpec], sparsities: Mapping[str, float]
) -> list[counting.LayerCount]:
  """Counts layers by sparsities that were written with few digits.

  Args:
    layers: the layers.
    sparsities: shares of zeros in [0, 1] by layer name; a layer that is not in
      it is dense.

  Raises:
    ValueError: if it has a layer that the network lacks.
  """
  unknown = sorted(set(sparsities) - {layer.name for layer in layers})
  if unknown:
    raise ValueError(f"the network has no layer {unknown[0]!r}")
  return [
    counting.count_layer(
      layer, _exact(sparsities.get(layer.name, 0.0), layer.size)
    )
    for layer in layers
  ]


def dense_count(layers: Sequence[counting.LayerSpec]) -> counting.Count:
  """The cost of layers without zeros."""
  return counting.total_count([counting.count_layer(n) for n in layers])


def _exact(share: float, size: int) -> float:
  """A share of which `floor(share * size)` is the nearest number of zeros."""
  zeros = round(share * size)
  return min((zeros + 0.5) / size, 1.0) if zeros else 0.0
