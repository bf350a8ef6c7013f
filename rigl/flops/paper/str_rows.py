# SPDX-License-Identifier: Apache-2.0
"""Sparsities by layer that STR learned for ResNet-50."""

from __future__ import annotations

from rigl import sparse_utils
from rigl.counting import architectures

# Overall shares of zeros.
KNOWN = (
  0.7955,
  0.8127,
  0.877,
  0.9023,
  0.9055,
  0.948,
  0.9503,
  0.9515,
  0.9611,
  0.9653,
  0.9778,
  0.9805,
  0.9822,
  0.9879,
  0.9898,
  0.991,
)


def learned_sparsities(overall: float) -> dict[str, float]:
  """Sparsities of ResNet-50 by STR (Kusupati et al., 2020, arXiv 2002.03231).

  Args:
    overall: one of `KNOWN`.

  Returns:
    {name of layer: sparsity in [0, 1)} for all 54 layers.

  Raises:
    ValueError: if `overall` is another number.
  """
  if overall not in KNOWN:
    raise ValueError(f"`overall` must be in {KNOWN}, got {overall}.")
  layers = architectures.resnet(50)
  shapes = {layer.name: layer.kernel_shape for layer in layers}
  return sparse_utils.get_sparsities(shapes, "str", overall)
