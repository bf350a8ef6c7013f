# SPDX-License-Identifier: Apache-2.0
"""The rows of the tables of the study: the seeds of a method at a sparsity."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

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
_OTHERS = {
  "set": "SET",
  "snip": "SNIP",
  "sparse_ift_rigl": "Sparse-IFT, RigL",
  "top_kast_small_backward": "Top-KAST, smaller backward set",
  "top_kast_half_exploration": "Top-KAST, exploration in the first half",
}
SPARSITIES = (0.9, 0.95, 0.98)
# The network of the study; those of other widths have a table of their own.
NETWORK = "WRN-22-2"


class Row(NamedTuple):
  """The runs of a method at one sparsity.

  Attributes:
    label: name of the method.
    runs: its runs, one per seed, of one network; at least one.
  """

  label: str
  runs: list[StudyRun]

  @property
  def network(self) -> str:
    """Name of the network."""
    return self.runs[0].network

  @property
  def sparsity(self) -> float:
    """The sparsity that was asked for."""
    return self.runs[0].sparsity

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


def rows_at(study: Study, sparsity: float, network: str = NETWORK) -> list[Row]:
  """The rows of a sparsity, in the order of `METHODS`; others follow.

  Args:
    study: the runs.
    sparsity: the sparsity that was asked for; 0 for dense runs.
    network: name of the network.
  """
  runs = [
    run
    for run in study.runs
    if (run.sparsity, run.network) == (sparsity, network)
  ]
  return [
    Row(_label(method), [run for run in runs if run.method == method])
    for method in _ordered(runs)
  ]


def rows_of_other_networks(study: Study) -> list[Row]:
  """The rows of networks of other widths, by network and sparsity."""
  others = {
    (run.network, run.sparsity) for run in study.runs if run.network != NETWORK
  }
  return [
    row
    for network, sparsity in sorted(others)
    for row in rows_at(study, sparsity, network)
  ]


def missing_at(study: Study, sparsity: float) -> list[str]:
  """The names of the methods of the study that have no run at a sparsity.

  Args:
    study: the runs.
    sparsity: the sparsity that was asked for; 0 for dense runs.
  """
  found = {
    run.method
    for run in study.runs
    if (run.sparsity, run.network) == (sparsity, NETWORK)
  }
  return [
    label
    for method, label in METHODS.items()
    if method not in found and (method == DENSE) == (sparsity == 0)
  ]


def sparsities(study: Study) -> list[float]:
  """`SPARSITIES`, and those of further runs of the network of the study."""
  found = {
    run.sparsity
    for run in study.runs
    if run.sparsity and run.network == NETWORK
  }
  return sorted(found.union(SPARSITIES))


def series(study: Study) -> dict[str, list[Row]]:
  """The lines of a plot: rows of sparse networks by the name of their line.

  The sparsities of a method are points of one line. Its runs with fewer steps,
  whatever their number, make another line, and so do those of each other width.
  """
  rows = [
    row for sparsity in sparsities(study) for row in rows_at(study, sparsity)
  ]
  place = {method: number for number, method in enumerate(METHODS)}
  rows.sort(key=lambda row: place.get(row.runs[0].method, len(place)))
  rows += [row for row in rows_of_other_networks(study) if row.sparsity]
  found: dict[str, list[Row]] = {}
  for row in rows:
    found.setdefault(_line(row), []).append(row)
  return found


def is_variant(line: str) -> bool:
  """Whether a line of `series` has other steps or another width."""
  return ", " in line


def _ordered(runs: Sequence[StudyRun]) -> list[str]:
  """The methods of runs, in the order of `METHODS`; others follow."""
  found = {run.method for run in runs}
  return [m for m in METHODS if m in found] + sorted(found.difference(METHODS))


def _label(method: str) -> str:
  name, length = _parts(method)
  return name if length is None else f"{name}, {length:g}x the steps"


def _parts(method: str) -> tuple[str, float | None]:
  """The name of a method, and its length if that is not 1."""
  name, _, length = method.rpartition("_")
  if not length.endswith("x"):
    name, length = method, ""
  known = {**METHODS, **_OTHERS}
  return known.get(name, name), float(length[:-1]) if length else None


def _line(row: Row) -> str:
  """The name of the line of a plot on which a row is a point."""
  name, length = _parts(row.runs[0].method)
  if length is not None:
    name += ", fewer steps" if length < 1 else ", more steps"
  return name if row.network == NETWORK else f"{name}, {row.network}"
