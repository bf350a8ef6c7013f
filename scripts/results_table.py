# SPDX-License-Identifier: Apache-2.0
"""Prints a Markdown table of the runs below a directory.

  python scripts/results_table.py rigl_runs/mnist_all

One row per configuration and sparsity, over all seeds. The directories of
`train_all.py`, CONFIG_seedNUMBER, name the configuration; other runs go by
their training method. Runs that cannot be read are left out and named. Nothing
is trained here.
"""

from __future__ import annotations

import argparse
import collections
import math
import pathlib
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rigl.config import stop_signals  # noqa: F401

# isort: split
from rigl import file_contents

_HEADER = (
  "Method",
  "Sparsity",
  "Length",
  "Seeds",
  "Test accuracy, mean (%)",
  "min..max (%)",
  "Steps/s, median",
)
_CONFIG = re.compile(r"(.+)_seed\d+")


class Run(NamedTuple):
  """A run in its directory.

  Attributes:
    method: its configuration or its training method.
    length: length of the whole run, in epochs or steps.
    sparsity: share of zeros of all masks at the end, in [0, 1].
    accuracy: test accuracy at the end, in [0, 1]; None before the end.
    steps_per_second: speed in each epoch, without the evaluation.
  """

  method: str
  length: str
  sparsity: float
  accuracy: float | None
  steps_per_second: list[float]


def read_run(directory: pathlib.Path, name: str) -> Run:
  """Reads a run, finished or not.

  Args:
    directory: its directory.
    name: path of that below the directory of all runs.

  Raises:
    ValueError, TypeError: if something in its files is not as it should be.
    KeyError: if a setting or a result is missing.
    OSError: if a file cannot be read.
  """
  settings = file_contents.read_json_object(directory / "run.json")["settings"]
  result_file, accuracy, sparsity = directory / "result.json", None, 0.0
  if result_file.exists():
    result = file_contents.read_json_object(result_file)
    accuracy = float(result["test_accuracy"])
    sparsity = float(result["sparsity"])
  metrics_file = directory / "metrics.csv"
  rows = file_contents.read_csv(metrics_file) if metrics_file.exists() else []
  config = _CONFIG.fullmatch(next(iter(pathlib.PurePath(name).parts), ""))
  return Run(
    config[1] if config else str(settings["training_method"]),
    _length(settings),
    sparsity,
    accuracy,
    [float(row.get("steps_per_second") or "nan") for row in rows],
  )


def _length(settings: dict[str, Any]) -> str:
  if "num_epochs" in settings:
    return f"{settings['num_epochs']} epochs"
  steps = settings["max_steps"] * settings.get("training_steps_multiplier", 1)
  return f"{int(steps)} steps"


def table(runs: Iterable[Run]) -> str:
  """Makes the table of the finished runs, in the order of their accuracy."""
  groups: dict[tuple, list[Run]] = collections.defaultdict(list)
  for run in runs:
    if run.accuracy is not None:
      # Rounding may make the sparsities of seeds differ slightly.
      groups[run.method, f"{run.sparsity:.4f}", run.length].append(run)
  rows = [
    _row(*key, group)
    for key, group in sorted(
      groups.items(), key=lambda item: -_mean_accuracy(item[1])
    )
  ]
  rule = ("---", *("---:" for _ in _HEADER[1:]))
  return "\n".join(
    "| " + " | ".join(cells) + " |" for cells in (_HEADER, rule, *rows)
  )


def _row(
  method: str, sparsity: str, length: str, runs: list[Run]
) -> tuple[str, ...]:
  accuracies = [run.accuracy or 0.0 for run in runs]
  speeds = [
    speed
    for run in runs
    for speed in run.steps_per_second
    if not math.isnan(speed)  # Runs replayed from a GPU have none.
  ]
  return (
    method,
    sparsity,
    length,
    str(len(runs)),
    f"{100 * _mean_accuracy(runs):.2f}",
    f"{100 * min(accuracies):.2f}..{100 * max(accuracies):.2f}",
    _speed(statistics.median(speeds)) if speeds else "",
  )


def _speed(value: float) -> str:
  return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def _mean_accuracy(runs: list[Run]) -> float:
  return statistics.fmean(run.accuracy or 0.0 for run in runs)


def main(arguments: Sequence[str] | None = None) -> int:
  """Prints the table of the directory on the command line."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("directory", type=pathlib.Path, help="holds the runs")
  directory = parser.parse_args(arguments).directory
  places = sorted(file.parent for file in directory.rglob("run.json"))
  if not places:
    print(f"error: no runs in {str(directory)!r}.", file=sys.stderr)
    return 1
  names = {str(place.relative_to(directory)): place for place in places}
  runs, left_out = {}, []
  for name, place in names.items():
    try:
      runs[name] = read_run(place, name)
    except KeyError as error:
      left_out.append(f"{name} (lacks {error})")
    except (ValueError, TypeError, OSError) as error:
      left_out.append(f"{name} ({error})")
  print(table(runs.values()))
  unfinished = [name for name, run in runs.items() if run.accuracy is None]
  if unfinished:
    print(f"\nNot finished: {', '.join(unfinished)}.")
  if left_out:
    print(f"\nLeft out: {', '.join(left_out)}.")
  return 0


if __name__ == "__main__":
  sys.exit(main())
