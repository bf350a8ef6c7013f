# SPDX-License-Identifier: Apache-2.0
"""Tables of counted layers: text for a terminal, rows for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rigl.counting.costs import Count, total
from rigl.counting.rules import LayerCount

COLUMNS = (
  "layer",
  "kind",
  "kernel_shape",
  "weights",
  "zeros",
  "sparsity",
  "multiplications",
  "additions",
  "flops",
  "bytes",
)
_MAX_WIDTH = 100
_GAP = "  "  # Between columns.
_LEFT_OUT = "..."


def total_count(layers: Sequence[LayerCount]) -> Count:
  """The cost of all layers together."""
  return total([layer.count for layer in layers])


def real_sparsity(layers: Sequence[LayerCount]) -> float:
  """Share of zeros among the weights of all kernels, in [0, 1]."""
  weights = sum(layer.spec.size for layer in layers)
  return sum(layer.n_zeros for layer in layers) / weights


def rows(layers: Sequence[LayerCount]) -> list[dict[str, Any]]:
  """One row per layer, with the keys `COLUMNS`.

  `sparsity` is the real one, `zeros / weights`.
  """
  return [
    {
      "layer": layer.spec.name,
      "kind": layer.spec.kind,
      "kernel_shape": list(layer.spec.kernel_shape),
      "weights": layer.spec.size,
      "zeros": layer.n_zeros,
      "sparsity": layer.n_zeros / layer.spec.size,
      "multiplications": layer.count.multiplications,
      "additions": layer.count.additions,
      "flops": layer.count.flops,
      "bytes": layer.count.bytes,
    }
    for layer in layers
  ]


def total_row(layers: Sequence[LayerCount]) -> dict[str, Any]:
  """The row of all layers together, with the keys `COLUMNS`."""
  count = total_count(layers)
  return {
    "layer": "total",
    "kind": "",
    "kernel_shape": [],
    "weights": sum(layer.spec.size for layer in layers),
    "zeros": sum(layer.n_zeros for layer in layers),
    "sparsity": real_sparsity(layers),
    "multiplications": count.multiplications,
    "additions": count.additions,
    "flops": count.flops,
    "bytes": count.bytes,
  }


def summary(layers: Sequence[LayerCount]) -> str:
  """Table of layers and their total, at most 100 columns wide.

  The scope that all layers share is in the header. Long names lose letters in
  their middle; `rows` has them in full.
  """
  table = [*rows(layers), total_row(layers)]
  full = [row["layer"] for row in table[:-1]]
  names = [*short_names(full), "total"]
  scope = full[0].removesuffix(names[0])
  numbers = [
    (
      "x".join(str(size) for size in row["kernel_shape"]),
      f"{row['sparsity']:.4f}",
      f"{row['weights'] - row['zeros']:,}",
      f"{row['flops']:,.0f}",
      f"{row['bytes']:,.0f}",
    )
    for row in table
  ]
  header = ("kernel", "sparsity", "weights", "flops", "bytes")
  others = align([header, *numbers], left=1).splitlines()
  room = _MAX_WIDTH - len(_GAP) - max(map(len, others))
  cells = [f"layers of {scope}" if scope else "layer", *names]
  cells = [_shortened(cell, room) for cell in cells]
  width = max(map(len, cells))
  return "\n".join(
    f"{cell:{width}}{_GAP}{rest}"
    for cell, rest in zip(cells, others, strict=True)
  )


def short_names(names: Sequence[str]) -> list[str]:
  """Names without the scopes that all of them are in.

  >>> short_names(["net/block/conv", "net/dense"])
  ['block/conv', 'dense']

  Args:
    names: names of layers, whose scopes end with a slash.

  Returns:
    The names, which differ where the given ones do.
  """
  split = [name.split("/") for name in names]
  scopes = [parts[:-1] for parts in split]
  shared = 0
  for level in zip(*scopes, strict=False):
    if len(set(level)) > 1:
      break
    shared += 1
  return ["/".join(parts[shared:]) for parts in split]


def _shortened(name: str, length: int) -> str:
  """A name of at most some letters: those of its start and its end."""
  if len(name) <= length:
    return name
  end = max(length - len(_LEFT_OUT), 2) // 2
  return name[: length - len(_LEFT_OUT) - end] + _LEFT_OUT + name[-end:]


def align(lines: Sequence[Sequence[str]], left: int) -> str:
  """Text with columns of equal width.

  Args:
    lines: cells, of the same number in each line.
    left: how many columns are flush left; the others are flush right.
  """
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    _GAP.join(
      cell.ljust(width) if i < left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )
