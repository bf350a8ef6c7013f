# SPDX-License-Identifier: Apache-2.0
"""Directories of runs that an earlier version began go on in this one.

What follows a checkpoint depends a little on the processor, so the end of a
run is compared with a tolerance, and only the restored state bit for bit.
"""

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from recordings import (
  RUNS,
  RUNS_FOLDER,
  newest_checkpoint,
  only_run,
  restored_state,
  run,
  what_it_left,
)

from rigl.cifar_resnet.class_names import CIFAR10

# Share of the connections that may differ at the end.
MASK_TOLERANCE = 0.01
# Distance of a tensor as a share of its length. Older instructions and other
# convolutions on one processor gave 4e-7, 0.02 and 1e-4; other images give 1.
TOLERANCES = {"mnist": 0.001, "cifar10": 0.1, "imagenet": 0.01}


# They train on; one in the fast tests.
SOME_RUNS = [
  name if name == "mnist" else pytest.param(name, marks=pytest.mark.slow)
  for name in RUNS
]


@pytest.fixture
def name(request, tmp_path, monkeypatch):
  """That of a run, whose stopped directory is below the working directory."""
  with zipfile.ZipFile(RUNS_FOLDER / f"{request.param}.zip") as archive:
    archive.extractall(tmp_path)
  monkeypatch.chdir(tmp_path)
  return request.param


def rows(text):
  return list(csv.DictReader(io.StringIO(text)))


def positions(text):
  return [
    {name: row[name] for name in ("iteration", "step", "epoch")}
    for row in rows(text)
  ]


@pytest.mark.parametrize("name", RUNS, indirect=True)
def test_a_stopped_run_is_restored_bit_for_bit(name):
  checkpoint = newest_checkpoint(only_run("run"))
  state = restored_state(*RUNS[name].command)
  assert state.keys() == checkpoint.keys()
  for key, value in checkpoint.items():
    assert state[key].astype(value.dtype).tobytes() == value.tobytes(), key


@pytest.mark.parametrize("name", SOME_RUNS, indirect=True)
def test_a_stopped_run_ends_as_in_the_recording(name, tmp_path):
  directory = only_run("run")
  before = (directory / "metrics.csv").read_text()
  iteration = int(newest_checkpoint(directory)["iteration"])
  assert run(*RUNS[name].command) == 0
  found = what_it_left(directory)
  expected = json.loads((tmp_path / "end" / "left.json").read_text())
  new = set(found["files"]) - set(expected["files"])
  assert set(expected["files"]) <= set(found["files"])
  assert new <= {
    "metrics.csv.old",
    "train/events.out.tfevents",
    "unreported.json",
  }
  for folder, tags in expected["tags"].items():
    assert set(map(renamed, tags)) <= set(map(renamed, found["tags"][folder]))
  check_metrics(found["metrics"], expected["metrics"])
  assert rows_until(iteration, found["metrics"]) == rows_until(
    iteration, before
  )
  assert found["result"].keys() == expected["result"].keys()
  last = rows(found["metrics"])[-1]
  for key, value in expected["result"].items():
    if "accuracy" in key:  # One image more or less.
      value = pytest.approx(float(last[key]), abs=1e-5)
    assert found["result"][key] == value
  with np.load(tmp_path / "end" / "tensors.npz") as tensors:
    check_tensors(newest_checkpoint(directory), tensors, TOLERANCES[name])


def rows_until(iteration, text):
  """Filled cells that a run keeps when it resumes from an iteration."""
  kept = [row for row in rows(text) if int(row["iteration"]) <= iteration]
  return [{name: row[name] for name in row if row[name]} for row in kept]


def renamed(name):
  """The name that a metric has now."""
  for number, class_name in enumerate(CIFAR10):  # They had numbers.
    for rate in ("precision", "recall"):
      if name.removeprefix("test_") == f"{rate}/{number}":
        return name.replace(str(number), class_name)
  return name


def check_metrics(found, expected):
  """Nothing that was recorded is missing; more may be there."""
  assert positions(found) == positions(expected)
  for row, wanted in zip(rows(found), rows(expected), strict=True):
    filled = {renamed(name) for name in row if row[name]}
    assert {renamed(name) for name in wanted if wanted[name]} <= filled


def check_tensors(found, expected, tolerance):
  assert found.keys() == set(expected)
  for name, wanted in expected.items():
    value = found[name]
    assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape), name
    if name.endswith("/mask"):
      assert value.sum() == wanted.sum(), name
      assert np.mean(value != wanted) <= MASK_TOLERANCE, name
    else:
      distance = np.linalg.norm(value - wanted)
      assert distance <= tolerance * np.linalg.norm(wanted), name
