# SPDX-License-Identifier: Apache-2.0
"""The study as a page in Markdown, with its plots."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from rigl.flops import plots
from rigl.flops.study import rows as study_rows
from rigl.flops.study.rows import Row, rows_at
from rigl.flops.study.runs import Study

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
_EXPLAINED = "methods.md#explored-share-itop"
# Methods that their variants are drawn beside.
_BASES = ("RigL", "Top-KAST")


def table(study: Study, sparsity: float) -> str:
  """The table of a sparsity in Markdown, below dense training.

  Args:
    study: the runs.
    sparsity: the sparsity that was asked for.
  """
  rows = [*rows_at(study, 0.0), *rows_at(study, sparsity)]
  return _markdown(_HEADER, map(_cells, rows))


def table_of_other_networks(study: Study) -> str:
  """The table of networks of other widths in Markdown."""
  header = ("Network", "Sparsity", *_HEADER)
  return _markdown(
    header,
    (
      (row.network, f"{row.sparsity:g}", *_cells(row))
      for row in study_rows.rows_of_other_networks(study)
    ),
  )


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  """A table whose columns after that of methods are numbers."""
  method = header.index("Method")
  rule = ("---" if i <= method else "---:" for i in range(len(header)))
  return "\n".join(
    f"| {' | '.join(cells)} |" for cells in (header, tuple(rule), *lines)
  )


def page(study: Study, directory: str, stem: str) -> str:
  """The whole page.

  Args:
    study: the runs.
    directory: where they are, for the command that makes the page.
    stem: start of the names of the plots, which are beside the page.
  """
  parts = [_introduction(study, directory, stem), "## Plots"]
  for name, (title, text) in _titles(study).items():
    parts += [f"![{title}]({stem}_{name}.png)", f"*{text}*"]
  for sparsity in study_rows.sparsities(study):
    parts.append(f"## Sparsity {sparsity:g}")
    if rows_at(study, 0.0) or rows_at(study, sparsity):
      parts.append(table(study, sparsity))
    if sparsity in study_rows.SPARSITIES:
      dense = study_rows.missing_at(study, 0.0)
      missing = [*dense, *study_rows.missing_at(study, sparsity)]
      if missing:
        parts.append(f"Not trained: {', '.join(missing)}.")
  if study_rows.rows_of_other_networks(study):
    parts += [
      "## Networks of other widths",
      "Costs are relative to the dense WRN-22-2 here too.",
      table_of_other_networks(study),
    ]
  if study.left_out:
    reasons = [f"`{n}` ({why})" for n, why in study.left_out.items()]
    parts.append(f"Left out: {', '.join(reasons)}.")
  return "\n\n".join(parts) + "\n"


def figures(study: Study) -> dict[str, Figure]:
  """The plots by the end of their names.

  `training` and `inference` are the accuracy against FLOPs; `explored` is the
  explored share over the steps, if a run measured it.
  """
  lines = study_rows.series(study)
  methods = [name for name in lines if not study_rows.is_variant(name)]
  variants = [name for name in lines if study_rows.is_variant(name)]
  panels = {f"{study_rows.NETWORK} on CIFAR-10": methods}
  if variants:
    bases = [name for name in methods if name in _BASES]
    panels["Other numbers of steps, other widths"] = [*bases, *variants]
  names = [*methods, *variants]
  dense = next(iter(rows_at(study, 0.0)), None)
  found = {}
  for cost in _PLOTS:
    points = {
      name: [(row.cost(cost), row.accuracy) for row in rows]
      for name, rows in lines.items()
    }
    found[cost] = plots.plot_accuracies(
      {
        title: {name: points[name] for name in panel}
        for title, panel in panels.items()
      },
      {name: [row.spread for row in rows] for name, rows in lines.items()},
      f"{cost} FLOPs as a fraction of dense",
      "test accuracy (%)",
      names,
      None if dense is None else (dense.cost(cost), dense.accuracy),
    )
  explored = _explored(study)
  if explored:
    found[_EXPLORED] = plots.plot_curves(
      explored, "step", "share of connections\nthat were ever active", names
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
  for sparsity in study_rows.sparsities(study):
    for row in rows_at(study, sparsity):
      curves = [run.explored for run in row.runs if run.explored]
      if curves:
        found.setdefault(f"sparsity {sparsity:g}", {})[row.label] = curves
  return found


def _titles(study: Study) -> dict[str, tuple[str, str]]:
  """Title and caption of each plot."""
  points = (
    "Each line is a method, each point a sparsity. Bars reach from the lowest "
    "to the highest seed."
  )
  titles = {
    name: (title, f"{title}. {points}") for name, title in _PLOTS.items()
  }
  if _explored(study):
    title = "Share of connections that were ever active"
    text = (
      f"{title}, over the steps of training ([explored share]({_EXPLAINED}))."
    )
    titles[_EXPLORED] = title, text
  return titles


def _introduction(study: Study, directory: str, stem: str) -> str:
  found = {run.settings.get("precision", "float32") for run in study.runs}
  precision = " and ".join(sorted(found)) or "float32"
  return f"""# Study of all methods on CIFAR-10

This page and its plots are generated by `scripts/method_study.py`:

```sh
python scripts/method_study.py {directory} --output=docs/{stem}.md
```

[Which one to take](methods.md#which-one-to-take) summarises the study and
explains the methods.

The network is WRN-22-2 in {precision}, with the settings of `configs/cifar10/`;
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
