"""What counted layers look like in text, and as rows for other programs."""

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


def total_count(layers: Sequence[LayerCount]) -> Count:
  """The cost of all layers together."""
  return total([layer.count for layer in layers])


def real_sparsity(layers: Sequence[LayerCount]) -> float:
  """Share of zeros among the weights of all kernels, in [0, 1]."""
  weights = sum(layer.spec.size for layer in layers)
  return sum(layer.n_zeros for layer in layers) / weights


def rows(layers: Sequence[LayerCount]) -> list[dict[str, Any]]:
  """One row a layer, with the keys `COLUMNS`.

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
  """A table of layers and their total, for a terminal."""
  header = ("layer", "kernel", "sparsity", "weights", "flops", "bytes")
  lines = [header]
  for row in [*rows(layers), total_row(layers)]:
    lines.append(
      (
        row["layer"],
        "x".join(str(size) for size in row["kernel_shape"]),
        f"{row['sparsity']:.4f}",
        f"{row['weights'] - row['zeros']:,}",
        f"{row['flops']:,.0f}",
        f"{row['bytes']:,.0f}",
      )
    )
  return align(lines, left=2)


def align(lines: Sequence[Sequence[str]], left: int) -> str:
  """Text with columns of equal width.

  Args:
    lines: cells, of the same number in each line.
    left: how many columns are flush left; the others are flush right.
  """
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(
      cell.ljust(width) if i < left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )
