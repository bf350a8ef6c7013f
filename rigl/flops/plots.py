"""Charts of counted layers and of the published tables."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rigl import counting

_LABEL_EVERY_UP_TO = 60
_DPI = 72


def plot_layers(
  layers: Sequence[counting.LayerCount],
  dense: Sequence[counting.LayerCount],
  title: str = "",
) -> Figure:
  """Bars for the sparsity and the FLOPs of each layer.

  Args:
    layers: the layers.
    dense: the same layers without a pruned weight.
    title: stands above.

  Returns:
    A figure; `save` writes it.
  """
  figure = _figure(max(6.0, 0.16 * len(layers) + 2), 6.5)
  upper, lower = figure.subplots(2, 1, sharex=True)
  places = range(len(layers))
  upper.bar(places, [n.n_zeros / n.spec.size for n in layers], color="C0")
  upper.set_ylim(0, 1)
  upper.set_ylabel("sparsity")
  upper.set_title(title)
  lower.bar(
    places, [n.count.flops / 1e6 for n in dense], color="0.85", label="dense"
  )
  lower.bar(
    places, [n.count.flops / 1e6 for n in layers], color="C1", label="sparse"
  )
  lower.set_ylabel("FLOPs (millions)")
  lower.legend()
  if len(layers) <= _LABEL_EVERY_UP_TO:
    names = [layer.spec.name.rsplit("/", 1)[-1] for layer in layers]
    lower.set_xticks(places, names, rotation=90, fontsize=6)
  else:
    lower.set_xlabel("layer")
  return figure


def plot_accuracy(
  series: Mapping[str, Sequence[tuple[float, float]]],
  dense: tuple[float, float] | None = None,
  x_label: str = "inference FLOPs as a fraction of dense",
  title: str = "",
) -> Figure:
  """Points of accuracy over FLOPs.

  Args:
    series: {name: [(FLOPs, accuracy in percent), ...]}.
    dense: the point of the dense network, or None.
    x_label: what the FLOPs are.
    title: stands above.
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
  """Writes a figure; the ending of the path says in which format.

  Raises:
    ValueError: if there is no such format.
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
