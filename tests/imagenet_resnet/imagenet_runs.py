"""Runs of the ImageNet script inside the test process, on tiny data."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Any, NamedTuple

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.settings import ImagenetSettings
from rigl.training import checkpoints, command_line
from rigl.training.run_directory import RunDirectory

SCRIPT = pathlib.Path(imagenet_train_eval.__file__)
# A network and images that take tenths of a second a step.
TINY = (
  "--resnet_depth=18",
  "--width=0.25",
  "--image_size=32",
  "--num_label_classes=20",
  "--train_batch_size=4",
  "--eval_batch_size=4",
  "--export_model_freq=0",
  "--use_folder_stub=false",
  "--mask_init_method=erdos_renyi_kernel",
)
_tf_function = tf.function


class Outcome(NamedTuple):
  """What a command did: exit code, standard output and error."""

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
    argv = [str(SCRIPT), *map(str, (*TINY, *arguments))]
    self._monkeypatch.setattr(sys, "argv", argv)
    self._capsys.readouterr()
    code = 0
    try:
      command_line.run(
        imagenet_train_eval.main, imagenet_train_eval.define_flags
      )
    except SystemExit as error:
      code = int(error.code or 0)
    finally:
      _forget_flags()
      for lock in self._locks:
        lock.close()  # As the end of a process does.
    return Outcome(code, *self._capsys.readouterr())

  def succeeds(self, *arguments: Any) -> str:
    """Runs it and returns what it printed."""
    outcome = self(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome.out


def _forget_flags() -> None:
  names = [field.name for field in dataclasses.fields(ImagenetSettings)]
  for name in (*names, "gin_config", "gin_bindings"):
    if name in flags.FLAGS:
      delattr(flags.FLAGS, name)
  gin.clear_config()


@pytest.fixture
def shell(monkeypatch, capsys):
  return Shell(monkeypatch, capsys)


@pytest.fixture
def without_xla(monkeypatch):
  """Nothing is compiled by XLA, which costs seconds for each shape."""

  def plain(function: Any = None, jit_compile: Any = None, **options: Any):
    del jit_compile
    return _tf_function(function, **options)

  monkeypatch.setattr(tf, "function", plain)


def tensors_of(path: pathlib.Path) -> dict[str, np.ndarray]:
  """All tensors of the newest checkpoint."""
  tensors = checkpoints.load_latest(path)
  assert tensors is not None
  return tensors


def assert_same_tensors(first: pathlib.Path, second: pathlib.Path) -> None:
  """The newest checkpoints of two directories have the same bits."""
  a, b = tensors_of(first), tensors_of(second)
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].tobytes() == b[name].tobytes(), name
