# SPDX-License-Identifier: Apache-2.0
"""Charts of counted layers and of the published tables."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from rigl import counting

_DPI = 100
_INCHES_PER_BAR = 0.17
_NAME_SIZE = 8  # Points.
_INCHES_PER_LETTER = 0.06
_COLUMNS = 3  # Of a legend below the axes.
_MARKERS = "osD^vP<>X*"
_LINES = ("-", "--", ":")


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
  _draw_accuracy(axes, series, {}, list(series))
  if dense is not None:
    axes.plot(*dense, "k*", markersize=12, label="dense")
  axes.set_xlabel(x_label)
  axes.set_ylabel("top-1 accuracy (%)")
  axes.set_title(title)
  axes.legend()
  return figure


def plot_accuracies(
  panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
  spreads: Mapping[str, Sequence[tuple[float, float]]],
  x_label: str,
  y_label: str,
  names: Sequence[str],
  dense: tuple[float, float] | None = None,
) -> Figure:
  """Charts of accuracy against FLOPs beside each other, with one legend.

  Args:
    panels: {title: {name: [(FLOPs, accuracy in percent), ...]}}.
    spreads: {name: [(lowest, highest accuracy), ...]} of the same points, which
      are drawn as bars; names that are not there have none.
    x_label: label of the axes of FLOPs.
    y_label: label of the axis of accuracy on the left.
    names: all names, whose order gives each its colour and marker.
    dense: the point of the dense network, on the left. None: there is none.
  """
  shown = [n for n in names if any(n in panel for panel in panels.values())]
  legend_rows = -(-len(shown) // _COLUMNS)
  width = 9.6 if len(panels) > 1 else 8.0
  figure = _figure(width, 4.2 + 0.24 * legend_rows)
  row = figure.subplots(1, len(panels), squeeze=False)[0]
  for axes, (title, panel) in zip(row, panels.items(), strict=True):
    _draw_accuracy(axes, panel, spreads, names)
    axes.set_title(title)
    axes.set_xlabel(x_label)
  row[0].set_ylabel(y_label)
  if dense is not None:
    row[0].plot(*dense, "k*", markersize=12, label="dense")
    shown.append("dense")
  drawn: dict[str, Artist] = {}
  for axes in row:
    handles, labels = axes.get_legend_handles_labels()
    drawn.update(zip(labels, handles, strict=True))
  figure.legend(
    [drawn[name] for name in shown],
    shown,
    loc="outside lower left",
    ncols=_COLUMNS,
    fontsize="small",
  )
  return figure


def _draw_accuracy(
  axes: Axes,
  series: Mapping[str, Sequence[tuple[float, float]]],
  spreads: Mapping[str, Sequence[tuple[float, float]]],
  names: Sequence[str],
) -> None:
  """Draws lines of accuracy against FLOPs, in the style of their names."""
  for name, points in series.items():
    turn, place = divmod(names.index(name), len(_MARKERS))
    colour = f"C{place}"
    axes.plot(
      *zip(*sorted(points), strict=True),
      f"{_MARKERS[place]}{_LINES[turn % len(_LINES)]}",
      color=colour,
      fillstyle="none" if turn else "full",
      label=name,
    )
    for (x, _), ends in zip(points, spreads.get(name, []), strict=False):
      axes.plot((x, x), ends, "_-", color=colour)
  axes.set_xscale("log")
  axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  axes.xaxis.set_major_formatter("{x:g}")
  axes.xaxis.set_minor_formatter(NullFormatter())
  axes.grid(alpha=0.3)


def plot_curves(
  panels: Mapping[str, Mapping[str, Sequence[Sequence[tuple[float, float]]]]],
  x_label: str,
  y_label: str,
  names: Sequence[str],
) -> Figure:
  """Charts beside each other, with one line per curve.

  Args:
    panels: {title: {name: [[(x, y), ...], ...]}}; the curves of one name have
      one colour, in all panels. y is at least 0.
    x_label: label of the x axes.
    y_label: label of the y axis on the left.
    names: all names, whose order gives each its colour, as in
      `plot_accuracies`.
  """
  figure = _figure(1.5 + 2.7 * len(panels), 3.8)
  row = figure.subplots(1, len(panels), squeeze=False)[0]
  for axes, (title, panel) in zip(row, panels.items(), strict=True):
    for name, curves in panel.items():
      for curve in curves:
        axes.plot(
          *zip(*curve, strict=True), linewidth=1.2, **_line(name, names)
        )
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
  row[0].set_ylabel(y_label)
  shown = [n for n in names if any(n in panel for panel in panels.values())]
  figure.legend(
    [Line2D([], [], **_line(name, names)) for name in shown],
    shown,
    loc="outside lower center",
    ncols=len(shown),
    fontsize="small",
  )
  return figure


def _line(name: str, names: Sequence[str]) -> dict[str, str]:
  """Colour and style of a line without markers."""
  turn, place = divmod(names.index(name), len(_MARKERS))
  return {"color": f"C{place}", "linestyle": _LINES[turn % len(_LINES)]}


def check_suffix(path: str | pathlib.Path) -> None:
  """Raises a ValueError if a figure cannot be written to a path of this name.

  Args:
    path: a file whose suffix gives the format, such as `bars.png`.
  """
  known = sorted(FigureCanvasAgg.get_supported_filetypes())
  suffix = pathlib.Path(path).suffix.removeprefix(".").lower()
  if suffix not in known:
    raise ValueError(
      f"`plot` must be a file whose name ends with one of {known}, got "
      f"{str(path)!r}."
    )


def save(figure: Figure, path: str | pathlib.Path) -> None:
  """Writes a figure in the format given by the suffix of the path.

  Args:
    figure: the figure.
    path: the file, which is replaced if it exists.

  Raises:
    ValueError: if the format is not supported.
    OSError: if the file cannot be written.
  """
  check_suffix(path)
  figure.savefig(path)


def _figure(width: float, height: float) -> Figure:
  figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
  FigureCanvasAgg(figure)
  return figure
