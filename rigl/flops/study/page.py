# SPDX-License-Identifier: Apache-2.0
"""The study as a page in Markdown, with its plots."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from rigl.flops import plots
from rigl.flops.study.runs import DENSE, Study, StudyRun

# Methods of the study by the name of their files in configs/cifar10/.
METHODS = {
  DENSE: "dense",
  "static": "static",
  "rigl": "RigL",
  "rigl_itop": "RigL-ITOP",
  "set_itop": "SET-ITOP",
  "granet": "GraNet",
  "mest": "MEST EM&S",
  "rigl_global": "RigL across layers",
  "top_kast": "Top-KAST",
  "momentum": "SNFS",
  "prune": "pruning",
}
_OTHERS = {"set": "SET", "snip": "SNIP", "sparse_ift_rigl": "Sparse-IFT, RigL"}
SPARSITIES = (0.9, 0.95, 0.98)
_HEADER = (
  "Method",
  "Seeds",
  "Test accuracy (%)",
  "Training FLOPs",
  "Inference FLOPs",
  "Size, counted (kB)",
  "Compact file (kB)",
)
_PLOTS = {
  "training": "Test accuracy against training FLOPs",
  "inference": "Test accuracy against inference FLOPs",
}
_EXPLORED = "explored"


class Row(NamedTuple):
  """The runs of a method at one sparsity.

  Attributes:
    label: name of the method.
    runs: its runs, one per seed.
  """

  label: str
  runs: list[StudyRun]

  @property
  def accuracies(self) -> list[float]:
    """Test accuracies of the seeds, in percent."""
    return [run.accuracy for run in self.runs]

  @property
  def accuracy(self) -> float:
    """Mean test accuracy, in percent."""
    return statistics.fmean(self.accuracies)

  @property
  def spread(self) -> tuple[float, float]:
    """The lowest and the highest test accuracy, in percent."""
    return min(self.accuracies), max(self.accuracies)

  def cost(self, name: str) -> float:
    """Mean of an attribute of the costs."""
    return statistics.fmean(getattr(run.cost, name) for run in self.runs)


def rows_at(study: Study, sparsity: float) -> list[Row]:
  """The rows of a sparsity, in the order of `METHODS`; others follow."""
  runs = [run for run in study.runs if run.sparsity == sparsity]
  return [
    Row(_label(method), [run for run in runs if run.method == method])
    for method in _methods(runs)
  ]


def missing_at(study: Study, sparsity: float) -> list[str]:
  """The methods of the study that have no run at a sparsity."""
  found = {run.method for run in study.runs if run.sparsity == sparsity}
  return [
    label
    for method, label in METHODS.items()
    if method not in found and (method == DENSE) == (sparsity == 0)
  ]


def table(study: Study, sparsity: float) -> str:
  """The table of a sparsity in Markdown, below dense training."""
  rule = ("---", *("---:" for _ in _HEADER[1:]))
  rows = [*rows_at(study, 0.0), *rows_at(study, sparsity)]
  return "\n".join(
    f"| {' | '.join(cells)} |" for cells in (_HEADER, rule, *map(_cells, rows))
  )


def page(study: Study, directory: str, stem: str) -> str:
  """The whole page.

  Args:
    study: the runs.
    directory: where they are, for the command that makes the page.
    stem: start of the names of the plots, which are beside the page.
  """
  parts = [_introduction(study, directory, stem)]
  for sparsity in _sparsities(study):
    parts.append(f"## Sparsity {sparsity:g}")
    if any(run.sparsity in (0.0, sparsity) for run in study.runs):
      parts.append(table(study, sparsity))
    if sparsity in SPARSITIES:
      dense = missing_at(study, 0.0)
      missing = [*dense, *missing_at(study, sparsity)]
      if missing:
        parts.append(f"Not trained: {', '.join(missing)}.")
  if study.left_out:
    reasons = [f"`{n}` ({why})" for n, why in study.left_out.items()]
    parts.append(f"Left out: {', '.join(reasons)}.")
  parts.append("## Plots")
  parts += [
    f"![{title}]({stem}_{name}.png)" for name, title in _titles(study).items()
  ]
  return "\n\n".join(parts) + "\n"


def figures(study: Study) -> dict[str, Figure]:
  """The plots by the end of their names.

  `training` and `inference` are the accuracy against FLOPs; `explored` is the
  explored share over the steps, if a run measured it.
  """
  found = {}
  sparse = [run for run in study.runs if run.sparsity]
  by_method: dict[str, list[Row]] = {
    _label(method): [] for method in _methods(sparse)
  }
  for sparsity in _sparsities(study):
    for row in rows_at(study, sparsity):
      by_method[row.label].append(row)
  dense = next(iter(rows_at(study, 0.0)), None)
  for name in _PLOTS:
    found[name] = plots.plot_accuracy(
      {
        label: [(row.cost(name), row.accuracy) for row in rows]
        for label, rows in by_method.items()
      },
      None if dense is None else (dense.cost(name), dense.accuracy),
      f"{name} FLOPs as a fraction of dense",
      "WRN-22-2 on CIFAR-10",
      {
        label: [row.spread for row in rows] for label, rows in by_method.items()
      },
    )
  explored = _explored(study)
  if explored:
    found[_EXPLORED] = plots.plot_curves(
      explored, "step", "share of connections that were ever active"
    )
  return found


def write(study: Study, directory: str, output: pathlib.Path) -> None:
  """Writes the page and its plots beside it.

  Args:
    study: the runs.
    directory: where they are, for the command that makes the page.
    output: the Markdown file.

  Raises:
    OSError: if a file cannot be written.
  """
  for name, figure in figures(study).items():
    plots.save(figure, output.with_name(f"{output.stem}_{name}.png"))
  output.write_text(page(study, directory, output.stem), encoding="utf-8")


def _methods(runs: Sequence[StudyRun]) -> list[str]:
  """The methods of runs, in the order of `METHODS`; others follow."""
  found = {run.method for run in runs}
  return [m for m in METHODS if m in found] + sorted(found.difference(METHODS))


def _label(method: str) -> str:
  name, _, length = method.rpartition("_")
  if length.endswith("x"):
    return f"{_label(name)}, {length} the steps"
  return {**METHODS, **_OTHERS}.get(method, method)


def _sparsities(study: Study) -> list[float]:
  found = {run.sparsity for run in study.runs if run.sparsity}
  return sorted(found.union(SPARSITIES))


def _cells(row: Row) -> tuple[str, ...]:
  low, high = row.spread
  spread = f" ({low:.2f}..{high:.2f})" if len(row.runs) > 1 else ""
  best = max(
    row.runs, key=lambda run: (run.file_bytes is not None, run.accuracy)
  )
  return (
    row.label,
    str(len(row.runs)),
    f"{row.accuracy:.2f}{spread}",
    f"{row.cost('training'):.3f}",
    f"{row.cost('inference'):.3f}",
    f"{row.cost('bytes') / 1e3:.0f}",
    "" if best.file_bytes is None else f"{best.file_bytes / 1e3:.0f}",
  )


def _explored(
  study: Study,
) -> dict[str, dict[str, Sequence[Sequence[tuple[int, float]]]]]:
  """The curves of each seed by sparsity and method."""
  found: dict[str, dict[str, Sequence[Sequence[tuple[int, float]]]]] = {}
  for sparsity in _sparsities(study):
    for row in rows_at(study, sparsity):
      curves = [run.explored for run in row.runs if run.explored]
      if curves:
        found.setdefault(f"sparsity {sparsity:g}", {})[row.label] = curves
  return found


def _titles(study: Study) -> dict[str, str]:
  titles = dict(_PLOTS)
  if _explored(study):
    titles[_EXPLORED] = "Share of connections that were ever active"
  return titles


def _introduction(study: Study, directory: str, stem: str) -> str:
  found = {run.settings.get("precision", "float32") for run in study.runs}
  precision = " and ".join(sorted(found)) or "float32"
  return f"""# Study of all methods on CIFAR-10

This page and its plots are generated by `scripts/method_study.py`:

```sh
python scripts/method_study.py {directory} --output=docs/{stem}.md
```

WRN-22-2 in {precision}, with the settings of `configs/cifar10/`;
`{directory}` holds the metrics of each run. Accuracies are those at the end
of training: the mean over the seeds, and the lowest and the highest one. Costs
are fractions of dense training of WRN-22-2 for 97,656 steps of 128 images:

- training FLOPs by the formula of each method ([FLOPs](flops.md),
  [methods](methods.md)), with the FLOPs of the forward pass averaged over the
  sparsities of the layers that the run reported;
- inference FLOPs by the sparsities at the end;
- the counted size has the masks, the nonzero weights in 32 bits and the biases;
  a [compact file](export.md#compact-files) has statistics of norms as well and
  is compressed. The compact file is that of the best seed that has one."""
