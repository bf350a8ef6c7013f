# SPDX-License-Identifier: Apache-2.0
"""Runs scripts on several devices, in processes of their own."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import warm_python

ROOT = pathlib.Path(__file__).resolve().parents[2]
_STATES = pathlib.Path(__file__).with_name("replica_states.py")
_WORKERS = ROOT / "scripts" / "run_workers.py"


class States(NamedTuple):
  """What a run ended with.

  Attributes:
    replicas: variables by name, of each replica.
    masks: masks by layer, after each update by its iteration.
    directory: of the run.
  """

  replicas: list[dict[str, np.ndarray]]
  masks: dict[int, dict[str, np.ndarray]]
  directory: pathlib.Path


def command(script: str, output: pathlib.Path, flags: Sequence[str]) -> list:
  """The command of one process, which writes its states to `output`."""
  return warm_python.command(_STATES, script, output, *flags)


def workers_command(count: int, restarts: int, single: list) -> list:
  """The command that runs another as several workers.

  Each is a usual interpreter, because warm ones have the same hashes of
  strings, on which the order of what workers do must not depend.
  """
  options = [f"--workers={count}", f"--restarts={restarts}"]
  warm = warm_python.command()
  if single[: len(warm)] == warm:
    single = [sys.executable, *single[len(warm) :]]
  return [sys.executable, str(_WORKERS), *options, "--", *single]


def run(whole: list, end: str = "", code: int = 0) -> str:
  """Runs a command; returns what it printed.

  Args:
    whole: the command.
    end: `SIGNAL:ITERATION`, what ends it; empty: nothing.
    code: the exit code that it must have.
  """
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "RIGL_TEST_END": end}
  process = subprocess.run(
    whole, capture_output=True, text=True, env=environment
  )
  assert process.returncode == code, process.stderr[-3000:]
  return process.stdout


def states(output: pathlib.Path, directory: pathlib.Path) -> States:
  """Reads the states of all processes, in the order of hosts."""
  replicas: list[dict[str, np.ndarray]] = []
  masks: dict[int, dict[str, np.ndarray]] = {}
  for path in sorted(output.parent.glob(f"{output.name}-*.npz")):
    own: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path) as file:
      for key in file.files:
        kind, _, name = key.partition("|")
        if kind == "masks":
          iteration, _, layer = name.partition("|")
          masks.setdefault(int(iteration), {})[layer] = file[key]
        else:
          own.setdefault(int(kind), {})[name] = file[key]
    replicas += [own[number] for number in sorted(own)]
  return States(replicas, masks, directory)


def assert_same_replicas(found: States) -> None:
  """All replicas have the same bits."""
  first, *others = found.replicas
  for other in others:
    assert other.keys() == first.keys()
    for name, value in first.items():
      assert other[name].tobytes() == value.tobytes(), name
