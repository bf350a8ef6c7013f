# SPDX-License-Identifier: Apache-2.0
"""Training scripts run inside the test process, and what they leave."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import sys
from typing import Any, NamedTuple

import gin
import numpy as np
import pytest
from absl import flags

from rigl.config import app
from rigl.config.settings import GIN_FLAGS
from rigl.training import checkpoints
from rigl.training.run_directory import RunDirectory


class Outcome(NamedTuple):
  """What a command did.

  Attributes:
    code: the exit code; 0 also where the script returned None.
    out: what it wrote to the standard output.
    err: what it wrote to the standard error.
  """

  code: int
  out: str
  err: str


class Shell:
  """Runs a script with the command line it is given, in this process.

  Args:
    script: the module; it has `main` and `define_flags`.
    settings_class: the settings whose flags it defines.
    monkeypatch: the fixture.
    capsys: the fixture.
    own_flags: names of other flags that it defines.
  """

  def __init__(
    self,
    script: Any,
    settings_class: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    own_flags: tuple[str, ...] = (),
  ) -> None:
    self._script, self._settings = script, settings_class
    self._monkeypatch, self._capsys = monkeypatch, capsys
    self._own_flags = own_flags
    self._directories: list[RunDirectory] = []
    make = RunDirectory.__init__

    def noting(directory: RunDirectory, *args: Any, **kwargs: Any) -> None:
      make(directory, *args, **kwargs)
      self._directories.append(directory)

    monkeypatch.setattr(RunDirectory, "__init__", noting)

  def __call__(self, *arguments: Any) -> Outcome:
    argv = [str(self._script.__file__), *map(str, arguments)]
    self._monkeypatch.setattr(sys, "argv", argv)
    self._capsys.readouterr()
    code = None
    try:
      app.run(self._script.main, self._script.define_flags)
    except SystemExit as error:
      code = error.code or 0
    finally:
      self._forget_flags()
      self._close_directories()  # As the end of a process does.
    assert code is not None
    return Outcome(code, *self._capsys.readouterr())

  def done(self, *arguments: Any) -> str:
    """Runs it, which must succeed; returns what it printed."""
    outcome = self(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome.out

  def run_of(self, *arguments: Any) -> Any:
    """The run of a command line, not prepared; those before are given up."""
    self._close_directories()
    argv = [str(self._script.__file__), *map(str, arguments)]
    self._monkeypatch.setattr(sys, "argv", argv)
    self._script.define_flags()
    try:
      flags.FLAGS(argv)
      return self._script.make_trainer()
    finally:
      self._forget_flags()

  def _close_directories(self) -> None:
    """Lets later runs use the directories of earlier ones."""
    for directory in self._directories:
      directory.close()

  def _forget_flags(self) -> None:
    """Removes the script's flags, so that they can be defined again."""
    fields = dataclasses.fields(self._settings)
    aliases = [field.metadata["alias"] for field in fields]
    names = [*(field.name for field in fields), *aliases, *GIN_FLAGS]
    for name in filter(None, [*names, *self._own_flags]):
      if name in flags.FLAGS:
        delattr(flags.FLAGS, name)
    gin.clear_config()


def refusal(shell: Shell, directory: pathlib.Path, *arguments: Any) -> str:
  """Runs a command that must be refused in one line; returns the line.

  Args:
    shell: the script.
    directory: the working directory, below which no file may be written.
    *arguments: the command's.
  """
  found = shell(*arguments)
  assert found.code == 1
  assert found.out == ""
  assert found.err.startswith("error: "), found.err
  assert found.err.count("\n") == 1 and found.err.endswith("\n")
  assert " at 0x" not in found.err
  files = [path for path in directory.rglob("*") if path.is_file()]
  assert [path for path in files if path.stat().st_size] == []
  return found.err


def final_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """All tensors of the newest checkpoint."""
  tensors = checkpoints.load_latest(path)
  assert tensors is not None
  return tensors


def assert_same_tensors(first: pathlib.Path, second: pathlib.Path) -> None:
  """The newest checkpoints of two directories have the same bits."""
  a, b = final_tensors(first), final_tensors(second)
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype, name
    assert a[name].tobytes() == b[name].tobytes(), name


def metrics(path: pathlib.Path) -> list[dict[str, str]]:
  """The rows of metrics.csv."""
  with open(path / "metrics.csv", newline="") as file:
    return list(csv.DictReader(file))


def without_timing(path: pathlib.Path) -> list[dict[str, str]]:
  """The rows without what depends on the speed of the machine."""
  rows = metrics(path)
  for row in rows:
    assert float(row.pop("steps_per_second")) > 0
  return rows


def assert_same_results(first: pathlib.Path, second: pathlib.Path) -> None:
  """Two directories hold the same weights, masks, metrics and result."""
  assert_same_tensors(first, second)
  assert without_timing(first) == without_timing(second)
  results = [(path / "result.json").read_text() for path in (first, second)]
  assert results[0] == results[1]
