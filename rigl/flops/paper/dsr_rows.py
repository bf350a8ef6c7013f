# SPDX-License-Identifier: Apache-2.0
"""Sparsities by layer that DSR learned for ResNet-50.

They are read off a figure of the paper, as in the published notebook, so they
are not exact.
"""

from __future__ import annotations

import importlib.resources
import json

# Overall shares of zeros.
KNOWN = (0.8, 0.9)


def learned_sparsities(overall: float) -> dict[str, float]:
  """Sparsities of ResNet-50 by DSR (Mostafa & Wang, 2019, arXiv 1902.05967).

  Args:
    overall: one of `KNOWN`.

  Returns:
    {name of layer: sparsity in [0, 1)} for all 54 layers.

  Raises:
    ValueError: if `overall` is another number.
  """
  if overall not in KNOWN:
    raise ValueError(f"`overall` must be in {KNOWN}, got {overall}.")
  path = importlib.resources.files("rigl.flops.paper") / "dsr_sparsities.json"
  data = json.loads(path.read_text(encoding="utf-8"))
  values = data["sparsities"][f"{overall:g}"]
  return dict(zip(data["layers"], values, strict=True))
