# SPDX-License-Identifier: Apache-2.0
"""A table of the sparse layers of an optimizer, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rigl.counting import align
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.sparse_layer import SparseLayer

_HEADER = ("Layer", "Shape", "Active", "Sparsity", "Changed")
_NOTE = (
  "Changed: share of the connections that the last mask update turned on or "
  "off."
)
_UNKNOWN = "Changed: no mask update was seen yet."
_EXPLORED = "Explored: share of the connections that were active at any time."


def summary(
  layers: Sequence[SparseLayer],
  changed: Mapping[str, int] | None,
  explored: Mapping[str, int] | None = None,
) -> str:
  """The table: layer, shape, active connections, sparsity, share changed.

  Args:
    layers: the sparse layers.
    changed: {layer name: connections that the last mask update turned on or
      off}. None: unknown.
    explored: {layer name: connections that were active at any time}, for a
      further column. None: untracked.

  Returns:
    Several lines, with the totals last.
  """
  rows: list[tuple[str, ...]] = [_HEADER]
  if explored is not None:
    rows = [(*_HEADER, "Explored")]
  sizes, actives = [], []
  for layer in layers:
    sizes.append(layer.size)
    actives.append(
      int(np.count_nonzero(graph_control.read_on_host(layer.mask)))
    )
    shape = "x".join(map(str, layer.shape))
    moved = None if changed is None else changed[layer.name]
    rows.append((layer.name, shape, *_numbers(sizes[-1], actives[-1], moved)))
    if explored is not None:
      rows[-1] += (f"{explored[layer.name] / max(sizes[-1], 1):.2%}",)
  total = None if changed is None else sum(changed.values())
  rows.append(("Total", "", *_numbers(sum(sizes), sum(actives), total)))
  note = _UNKNOWN if changed is None else _NOTE
  if explored is not None:
    rows[-1] += (f"{sum(explored.values()) / max(sum(sizes), 1):.2%}",)
    note = f"{note}\n{_EXPLORED}"
  return f"{align(rows, left=2)}\n{note}"


def _numbers(
  size: int, active: int, changed: int | None
) -> tuple[str, str, str]:
  sparsity = 1 - active / size if size else 0.0
  share = "-" if changed is None else f"{changed / max(size, 1):.2%}"
  return f"{active:,}", f"{sparsity:.2%}", share
