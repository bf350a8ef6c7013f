# SPDX-License-Identifier: Apache-2.0
"""The files of a run, and how each of them is read back."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigl.config import gin_files
from rigl.config.settings import run_identity
from rigl.imagenet_resnet.published import checkpoint_flags
from rigl.mnist import input_mask
from rigl.mnist.mask_records import MaskRecords
from rigl.mnist.mnist_settings import MnistSettings
from rigl.predict import run_flags
from rigl.predict.tasks import TASKS
from rigl.training import checkpoints, event_files, metrics_table, unreported
from rigl.training import run_identity as identities
from rigl.training.metrics import MetricsWriter
from rigl.training.run_directory import RunDirectory

_RNG = np.random.default_rng(1)
TENSORS = {
  "layer1/weights": _RNG.normal(size=[784, 2]).astype(np.float32),
  "layer1/mask": (_RNG.random([784, 2]) > 0.5).astype(np.float32),
  "global_step": np.int64(7),
}
_IDENTITY = run_identity(MnistSettings(training_method="rigl"))
_LENGTH = "num_epochs"
CHECKPOINT, _RUN = "model.ckpt-7", "rigl_0.98_seed0_0"


@dataclass(frozen=True)
class Reader:
  """A reader and a file for it.

  Attributes:
    name: name of the file, perhaps in a folder.
    make: writes it and what belongs to it to an empty directory.
    read: reads it; gets its path.
    label: what tells it from other readers of the same file.
    is_text: whether it is text, which has kinds of damage of its own.
    samples: how many damaged files CI tries.
  """

  name: str
  make: Callable[[pathlib.Path], Any]
  read: Callable[[pathlib.Path], Any]
  label: str = ""
  is_text: bool = False
  samples: int = 60

  @property
  def key(self) -> str:
    """What the reader is called."""
    return f"{self.name} {self.label}".strip()


def _mask_records(path: pathlib.Path) -> None:
  found = MaskRecords()
  for iteration in range(3):
    found.add(iteration, {"layer1": _RNG.random((20, 10)) > 0.5})
  found.save(path)


def _read_mask_records(path: pathlib.Path) -> None:
  found = MaskRecords.load(path)
  found.truncate(1)
  for name in found.layer_names:
    found.masks(name)


def _checkpoint(path: pathlib.Path) -> None:
  checkpoints.save(path.parent, 7, TENSORS)


def _read_checkpoint(path: pathlib.Path) -> None:
  """Reads it; other values than those that were saved are a finding."""
  found = checkpoints.load_latest(path.parent)
  if found is not None and not is_whole(found):
    raise AssertionError("the checkpoint has other values")


def is_whole(found: dict[str, np.ndarray]) -> bool:
  """Whether tensors have the bits of `TENSORS`."""
  return found.keys() == TENSORS.keys() and all(
    found[name].tobytes() == np.asarray(value).tobytes()
    and (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
    for name, value in TENSORS.items()
  )


def _run_file(path: pathlib.Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  checkpoints.save(path.parent, 7, TENSORS)
  record = {"version": "0.1", "settings": _IDENTITY}
  path.write_text(json.dumps(record, indent=2) + "\n")


def _predict(path: pathlib.Path) -> None:
  run = run_flags.read_run(str(path.parent))
  gin_files.parse_gin([], [], False, run.gin_bindings)
  TASKS[run.task or "mnist"].network(run.values)


def _find_run(path: pathlib.Path) -> None:
  name = _RUN.rpartition("_")[0]
  identities.default_directory(
    path.parents[1], name, _IDENTITY | {_LENGTH: 300}, _LENGTH
  )


def _metrics(path: pathlib.Path) -> None:
  writer = MetricsWriter(path.parent)
  for n in (10, 20, 30):
    place = {"iteration": n, "step": n, "epoch": n / 10}
    writer.write(n, place, {"loss": 1 / n}, {"loss": 2 / n})
  writer.close()


def _resume_metrics(path: pathlib.Path) -> None:
  """Goes on from iteration 20; the file must be whole then."""
  writer = MetricsWriter(path.parent, 20)
  place = {"iteration": 21, "step": 21, "epoch": 2.1}
  writer.write(21, place, {"loss": 0.5}, {})
  writer.close()
  text = (path.parent / "metrics.csv").read_text()
  assert metrics_table.parse(text).problems == []
  rows = [*csv.DictReader(io.StringIO(text))]
  numbers = [int(row["iteration"]) for row in rows]
  assert numbers[-1] == 21 and numbers == sorted(set(numbers)), numbers


def _events(path: pathlib.Path) -> None:
  """Writes the events under a name that is known beforehand."""
  _metrics(path.parents[1] / "metrics.csv")
  (written,) = path.parent.glob(event_files.PATTERN)
  written.rename(path)
  (path.parents[1] / "metrics.csv").unlink()


def _resume_events(path: pathlib.Path) -> None:
  _resume_metrics(path.parents[1] / "metrics.csv")


def _result(path: pathlib.Path) -> None:
  result = {"iteration": 7, "step": 6, "test_accuracy": 0.5, "sparsity": 0.9}
  (path.parent / "run.json").write_text(json.dumps({"settings": _IDENTITY}))
  path.write_text(json.dumps(result, indent=2) + "\n")


def _read_result(path: pathlib.Path) -> None:
  directory = RunDirectory(path.parent, _IDENTITY, False, length=_LENGTH)
  found = directory.result()
  assert found is None or all(np.isfinite(float(v)) for v in found.values())


def _left(path: pathlib.Path) -> None:
  metrics = {"loss": 0.5, "accuracy": 0.25}
  found = unreported.Unreported(3, metrics, 0.125, 1.5, 2, True)
  unreported.save(path.parent, 7, found)


def _read_left(path: pathlib.Path) -> None:
  found = unreported.load(path.parent, 7)
  found.add(2, {"loss": 0.5}, 0.1)
  for value in found.metrics.values():
    assert np.isfinite(value / max(found.steps, 1))


def _shapes(path: pathlib.Path) -> None:
  shapes = checkpoint_flags.read_shapes(str(path.parent / CHECKPOINT))
  with contextlib.suppress(ValueError):  # It is no ImageNet model.
    checkpoint_flags.find_flags(shapes)


READERS = (
  Reader(
    "run.json",
    _run_file,
    lambda path: RunDirectory(path.parent, _IDENTITY, False, length=_LENGTH),
    is_text=True,
  ),
  Reader("run.json", _run_file, _predict, "of predict", is_text=True),
  Reader(f"{_RUN}/run.json", _run_file, _find_run, is_text=True),
  Reader("metrics.csv", _metrics, _resume_metrics, is_text=True, samples=15),
  Reader("train/events.out.tfevents.0", _events, _resume_events, samples=8),
  Reader("result.json", _result, _read_result, is_text=True),
  Reader("unreported.json", _left, _read_left, is_text=True),
  Reader("mask_records.npz", _mask_records, _read_mask_records),
  Reader(f"{CHECKPOINT}.index", _checkpoint, _read_checkpoint),
  Reader(f"{CHECKPOINT}.index", _checkpoint, _shapes, "of eval_checkpoint"),
  Reader(f"{CHECKPOINT}.data-00000-of-00001", _checkpoint, _read_checkpoint),
  Reader(
    "checkpoint",
    _checkpoint,
    lambda path: input_mask.used_pixels(str(path.parent), 784),
    is_text=True,
  ),
)
