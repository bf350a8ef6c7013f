# SPDX-License-Identifier: Apache-2.0
"""Sparsities by layer that STR learned for ResNet-50.

`rigl.sparse_utils` has the ones that the published code trains with. The
published notebook counts one more network and sparsities of the first layer;
`str_sparsities.json` beside this module holds these.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable

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
    {name of layer: sparsity in [0, 1)}, without the first layer where its
    sparsity is not known.

  Raises:
    ValueError: if `overall` is another number.
  """
  if overall not in KNOWN:
    raise ValueError(f"`overall` must be in {KNOWN}, got {overall}.")
  layers = architectures.resnet(50)
  own = _own_rows().get(f"{overall:g}", {})
  if len(own) == len(layers):
    return own
  first, *others = [layer.name for layer in layers]
  try:
    return _lookup([first, *others], overall)
  except ValueError:  # The first layer is not in this table.
    return {**own, **_lookup(others, overall)}


def _lookup(names: Iterable[str], overall: float) -> dict[str, float]:
  # The method asks for shapes, but does not use them.
  return sparse_utils.get_sparsities(
    {name: (1, 1) for name in names}, "str", overall
  )


def _own_rows() -> dict[str, dict[str, float]]:
  path = importlib.resources.files("rigl.flops.paper") / "str_sparsities.json"
  return json.loads(path.read_text(encoding="utf-8"))
