"""Runs of the MNIST script inside the test process.

They train on synthetic data, 10 iterations an epoch, and nothing but the
top-k is compiled by XLA, which costs seconds a run otherwise.
"""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import sys
from typing import Any, NamedTuple

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from rigl.mnist import mnist_train_eval
from rigl.mnist.mask_records import MaskRecords
from rigl.mnist.settings import MnistSettings
from rigl.training import checkpoints, command_line
from rigl.training.run_directory import RunDirectory

SCRIPT = pathlib.Path(mnist_train_eval.__file__)
EPOCH = 10

# Schedules that fit into a few epochs of 10 iterations.
SHORT = (
  "--use_synthetic_data",
  "--learning_rate=0.1",
  "--num_epochs=2",
  "--maskupdate_frequency=4",
  "--maskupdate_end_step=1000",
  "--prune_begin_step=2",
  "--prune_end_step=14",
  "--pruning_frequency=3",
)

_tf_function = tf.function


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
  """Runs the script with the command line it is given, in this process."""

  def __init__(
    self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
  ) -> None:
    self._monkeypatch, self._capsys = monkeypatch, capsys
    self._locks: list[Any] = []
    take_lock = RunDirectory._take_lock

    def noting(directory: RunDirectory) -> Any:
      self._locks.append(take_lock(directory))
      return self._locks[-1]

    monkeypatch.setattr(RunDirectory, "_take_lock", noting)

  def __call__(self, *arguments: Any) -> Outcome:
    argv = [str(SCRIPT), *map(str, arguments)]
    self._monkeypatch.setattr(sys, "argv", argv)
    self._capsys.readouterr()
    code = None
    try:
      command_line.run(mnist_train_eval.main, mnist_train_eval.define_flags)
    except SystemExit as error:
      code = error.code or 0
    finally:
      forget_flags()
      for lock in self._locks:
        lock.close()  # As the end of a process does.
    assert code is not None
    return Outcome(code, *self._capsys.readouterr())

  def train(self, path: pathlib.Path, *arguments: Any) -> str:
    """Runs it on synthetic data in a directory; returns what it printed."""
    outcome = self(*SHORT, f"--save_path={path}", *arguments)
    assert outcome.code == 0, outcome.err
    return outcome.out


def forget_flags() -> None:
  """Removes the script's flags, so that they can be defined again."""
  names = [field.name for field in dataclasses.fields(MnistSettings)]
  for name in (*names, "gin_config", "gin_bindings"):
    if name in flags.FLAGS:
      delattr(flags.FLAGS, name)
  gin.clear_config()


@pytest.fixture
def shell(monkeypatch, capsys):
  return Shell(monkeypatch, capsys)


@pytest.fixture
def without_xla(monkeypatch):
  monkeypatch.setattr(tf, "function", _plain_function)


def _plain_function(function: Any, jit_compile: Any = None, **options: Any):
  del jit_compile
  return _tf_function(function, **options)


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


def records(path: pathlib.Path) -> dict[int, dict[str, np.ndarray]]:
  """{iteration: {layer: mask}} of mask_records.npz."""
  found = MaskRecords.load(path / "mask_records.npz")
  return {
    int(iteration): {name: found.mask(name, i) for name in found.layer_names}
    for i, iteration in enumerate(found.iterations)
  }


def assert_same_run(first: pathlib.Path, second: pathlib.Path) -> None:
  """Two directories hold the same weights, masks, metrics and results."""
  assert_same_tensors(first, second)
  assert without_timing(first) == without_timing(second)
  results = [(path / "result.json").read_text() for path in (first, second)]
  assert results[0] == results[1]
  both = [(path / "mask_records.npz").exists() for path in (first, second)]
  assert both[0] == both[1]
  if not both[0]:
    return
  a, b = records(first), records(second)
  assert a.keys() == b.keys()
  for iteration in a:
    for name, mask in a[iteration].items():
      np.testing.assert_array_equal(mask, b[iteration][name])
