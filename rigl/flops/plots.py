# SPDX-License-Identifier: Apache-2.0
"""Charts of counted layers and of the published tables."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rigl import counting

_DPI = 100
_INCHES_PER_BAR = 0.17
_NAME_SIZE = 8  # Points.
_INCHES_PER_LETTER = 0.06


def plot_layers(
  layers: Sequence[counting.LayerCount],
  dense: Sequence[counting.LayerCount],
  title: str = "",
) -> Figure:
  """Bar chart of the sparsity and the FLOPs of each layer.

  Layers run from top to bottom, and the figure is as tall as they need. Names
  are shown without the scope that all layers share.

  Args:
    layers: the counted layers.
    dense: the same layers, counted without a pruned weight.
    title: title of the figure.

  Returns:
    A figure; `save` writes it.
  """
  names = counting.short_names([layer.spec.name for layer in layers])
  longest = max(map(len, names))
  figure = _figure(
    7.0 + _INCHES_PER_LETTER * longest, 1.4 + _INCHES_PER_BAR * len(layers)
  )
  left, right = figure.subplots(1, 2, sharey=True)
  places = range(len(layers))
  left.barh(places, [n.n_zeros / n.spec.size for n in layers], color="C0")
  left.set_xlim(0, 1)
  left.set_xlabel("sparsity")
  left.set_yticks(places, names, fontsize=_NAME_SIZE)
  # The first layer on top, and no more room above it than a bar needs.
  left.set_ylim(len(layers) - 0.4, -0.6)
  right.barh(
    places, [n.count.flops / 1e6 for n in dense], color="0.85", label="dense"
  )
  right.barh(
    places, [n.count.flops / 1e6 for n in layers], color="C1", label="sparse"
  )
  right.set_xlabel("FLOPs (millions)")
  for axes in (left, right):
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
  figure.suptitle(title)
  # Above the bars, which it would hide inside the axes.
  right.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
  return figure


def plot_accuracy(
  series: Mapping[str, Sequence[tuple[float, float]]],
  dense: tuple[float, float] | None = None,
  x_label: str = "inference FLOPs as a fraction of dense",
  title: str = "",
) -> Figure:
  """Chart of accuracy against FLOPs.

  Args:
    series: {name: [(FLOPs, accuracy in percent), ...]}.
    dense: the point of the dense network, or None.
    x_label: label of the axis of FLOPs.
    title: title of the figure.
  """
  figure = _figure(6.0, 4.2)
  axes = figure.subplots()
  for name, points in series.items():
    axes.plot(*zip(*sorted(points), strict=True), "o-", label=name)
  if dense is not None:
    axes.plot(*dense, "k*", markersize=12, label="dense")
  axes.set_xscale("log")
  axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  axes.xaxis.set_major_formatter("{x:g}")
  axes.xaxis.set_minor_formatter(NullFormatter())
  axes.set_xlabel(x_label)
  axes.set_ylabel("top-1 accuracy (%)")
  axes.set_title(title)
  axes.grid(alpha=0.3)
  axes.legend()
  return figure


def save(figure: Figure, path: str | pathlib.Path) -> None:
  """Writes a figure in the format given by the suffix of the path.

  Raises:
    ValueError: if the format is not supported.
  """
  known = sorted(figure.canvas.get_supported_filetypes())
  suffix = pathlib.Path(path).suffix.removeprefix(".").lower()
  if suffix not in known:
    raise ValueError(
      f"`plot` must be a file whose name ends with one of {known}, got "
      f"{str(path)!r}."
    )
  figure.savefig(path)


def _figure(width: float, height: float) -> Figure:
  figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
  FigureCanvasAgg(figure)
  return figure
