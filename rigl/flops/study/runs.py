# SPDX-License-Identifier: Apache-2.0
"""Reads the runs of the study from a directory."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rigl import file_contents
from rigl.counting import training_flops
from rigl.flops.study.costs import RunCost, run_cost
from rigl.formats import compact

# `[NETWORK_]METHOD[_erk][_SPARSITY][_LENGTHx]_seedNUMBER`, as the files in
# configs/.
_NAME = re.compile(
  r"((?P<network>wrn_\d+_\d+)_)?(?P<method>.+?)(_erk)?"
  r"(_(?P<sparsity>0\.\d+))?(?P<length>_[\d.]+x)?_seed(?P<seed>\d+)"
)
DENSE = training_flops.BASELINE
# Settings in which the runs of one row may differ.
_FREE = ("seed", "track_exploration", "jit_compile")


class StudyRun(NamedTuple):
  """A finished run.

  Attributes:
    name: name of its directory.
    network: name of the network, such as `WRN-22-2`.
    method: the method in the name of the directory, such as `rigl_itop`.
    sparsity: the share of zeros it was asked for; 0 of a dense run.
    settings: all settings in its `run.json`.
    accuracy: test accuracy at the end, in percent.
    cost: what it cost.
    file_bytes: size of its compact file; None without one.
    explored: (step, share of connections that were ever active); empty if it
      was not measured.
  """

  name: str
  network: str
  method: str
  sparsity: float
  settings: Mapping[str, Any]
  accuracy: float
  cost: RunCost
  file_bytes: int | None
  explored: tuple[tuple[int, float], ...]


class Study(NamedTuple):
  """The runs below a directory.

  Attributes:
    runs: those that are finished, by name.
    left_out: why others are not among them, by the name of their directory.
  """

  runs: list[StudyRun]
  left_out: dict[str, str]


def read_study(directory: pathlib.Path) -> Study:
  """Reads all runs in a directory.

  A run that cannot be read, is not finished, or differs from the others of its
  row in more than the seed is left out.

  Args:
    directory: holds one directory per run, `NAME_seedNUMBER`.

  Raises:
    ValueError: if there is no run.
  """
  places = []
  if directory.is_dir():
    places = sorted(place for place in directory.iterdir() if place.is_dir())
  if not places:
    raise ValueError(f"`{directory}` must be a directory of runs.")
  runs: list[StudyRun] = []
  left_out: dict[str, str] = {}
  for place in places:
    try:
      run = read_run(place)
      _check_alike(run, runs)
      runs.append(run)
    except FileNotFoundError as error:
      left_out[place.name] = f"no {pathlib.Path(error.filename).name}"
    except KeyError as error:
      left_out[place.name] = f"lacks {error}"
    except (ValueError, TypeError, OSError) as error:
      left_out[place.name] = str(error)
  return Study(runs, left_out)


def read_run(place: pathlib.Path) -> StudyRun:
  """Reads a finished run.

  Args:
    place: its directory.

  Raises:
    ValueError: if it is not as described in the module, or not finished.
    KeyError: if a setting or a result is missing.
    OSError: if a file cannot be read.
  """
  parts = _NAME.fullmatch(place.name)
  if parts is None:
    raise ValueError("its name does not end with _seed and a number")
  settings = file_contents.read_json_object(place / "run.json")["settings"]
  result_file = place / "result.json"
  if not result_file.exists():
    raise ValueError("not finished")
  result = file_contents.read_json_object(result_file)
  is_dense = settings["training_method"] == DENSE
  sparsity = 0.0 if is_dense else settings["end_sparsity"]
  network = f"WRN-{settings['resnet_depth']}-{settings['resnet_width']}"
  said_network = (parts["network"] or "").upper().replace("_", "-")
  named = {
    "network": (said_network or network, network),
    "seed": (int(parts["seed"]), settings["seed"]),
    "sparsity": (float(parts["sparsity"] or sparsity), sparsity),
  }
  for what, (said, is_so) in named.items():
    if said != is_so:
      raise ValueError(f"its {what} is {is_so}")
  rows = file_contents.read_csv(place / "metrics.csv")
  if not rows or int(rows[-1]["step"]) != result["step"]:
    raise ValueError("metrics.csv does not end where the run did")
  return StudyRun(
    place.name,
    network,
    parts["method"] + (parts["length"] or ""),
    sparsity,
    settings,
    100 * result["test_accuracy"],
    run_cost(settings, rows),
    _file_bytes(place),
    tuple(
      (int(row["step"]), float(row["explored"]))
      for row in rows
      if row.get("explored")
    ),
  )


def _file_bytes(place: pathlib.Path) -> int | None:
  """Size of the compact file in a run's directory."""
  found = sorted(place.glob(f"*{compact.SUFFIX}"))
  if len(found) > 1:
    raise ValueError(f"it has {len(found)} compact files")
  return found[0].stat().st_size if found else None


def _check_alike(run: StudyRun, others: list[StudyRun]) -> None:
  """Raises a ValueError if a run differs from the others of its row."""
  row = [
    other
    for other in others
    if (other.network, other.method, other.sparsity)
    == (run.network, run.method, run.sparsity)
  ]
  for other in row[:1]:
    names = set(run.settings) | set(other.settings)
    for name in sorted(names.difference(_FREE)):
      mine, theirs = run.settings.get(name), other.settings.get(name)
      if mine != theirs:
        raise ValueError(
          f"its {name} is {mine!r}, and that of {other.name} {theirs!r}"
        )
