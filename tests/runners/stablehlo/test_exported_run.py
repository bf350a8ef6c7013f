# SPDX-License-Identifier: Apache-2.0
"""Stops of an exported run, and folders that are none."""

import gzip
import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest

pytest.importorskip("jax")

from rigl.runners.stablehlo import exported_run  # noqa: E402
from rigl.runners.stablehlo.exported_run import (  # noqa: E402
  ARGUMENTS,
  ExportedRun,
)


class FakeRun(ExportedRun):
  """Makes calls that do nothing but raise a signal in the third one."""

  def __init__(self, folder, number, count=9):
    self._folder, self._done, self.saved_at = folder, 0, []
    self._plan = {"calls": [["train", i, 1] for i in range(count)]}
    self._number = number
    (folder / "state-now.npz").touch()

  def _call(self, call):
    if call[1] == 2:
      os.kill(os.getpid(), self._number)

  def _save(self):
    self.saved_at.append(self._done)


@pytest.mark.parametrize(
  "number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_stops_after_the_call_and_saves(
  tmp_path, capsys, number, code
):
  run, before = FakeRun(tmp_path, number), signal.getsignal(number)
  with pytest.raises(SystemExit) as stop:
    run.run()
  assert stop.value.code == code
  assert run.saved_at == [3]
  assert "Stopped after 3 calls. The same command resumes it." in (
    capsys.readouterr().out
  )
  assert signal.getsignal(number) == before


def test_a_signal_in_the_last_call_finishes_the_run(tmp_path):
  run = FakeRun(tmp_path, signal.SIGTERM, count=3)
  run.run()
  assert run.is_finished
  assert (tmp_path / "state-end.npz").exists()


def write_run(folder):
  """The files of a run of no calls whose program needs data."""
  plan = {"calls": [], "seed": 0, "num_examples": 4, "batch_size": 2}
  inputs = [*ARGUMENTS, "state/a", "constants/0", "data/train/images"]
  program = {"text": "", "inputs": inputs, "outputs": []}
  (folder / "data").mkdir(parents=True)
  (folder / "plan.json").write_text(json.dumps(plan))
  np.savez(folder / "state.npz", a=np.zeros(2))
  np.savez(folder / "constants.npz", **{"constants/0": np.zeros(2)})
  np.save(folder / "data" / "train_images.npy", np.zeros(2))
  with gzip.open(folder / "programs.json.gz", "wt") as file:
    json.dump({"train": program}, file)


def cut(path):
  path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
  "damage, words",
  [
    (lambda folder: (folder / "plan.json").unlink(), "plan.json"),
    (lambda folder: (folder / "plan.json").write_text("{"), ""),
    (lambda folder: (folder / "plan.json").write_text("{}"), "'calls'"),
    (lambda folder: (folder / "plan.json").write_text("[]"), ""),
    (lambda folder: cut(folder / "state.npz"), ""),
    (lambda folder: (folder / "constants.npz").write_text(""), ""),
    (lambda folder: cut(folder / "programs.json.gz"), ""),
    (lambda folder: (folder / "programs.json.gz").write_text("{}"), ""),
    (lambda folder: cut(folder / "data" / "train_images.npy"), ""),
    (
      lambda folder: (folder / "data" / "train_images.npy").unlink(),
      "there is no 'data/train/images', which the programs need",
    ),
    (lambda folder: shutil.rmtree(folder), "plan.json"),
    (lambda folder: [shutil.rmtree(folder), folder.touch()], "plan.json"),
  ],
)
def test_folder_that_is_no_whole_run_is_an_error_in_one_line(
  tmp_path, monkeypatch, damage, words
):
  folder = tmp_path / "folder"
  write_run(folder)
  damage(folder)
  monkeypatch.setattr(
    sys, "argv", ["exported_run.py", str(folder), "--platform=cpu"]
  )
  with pytest.raises(SystemExit) as stop:
    exported_run.main()
  text = str(stop.value.code)
  assert text.startswith(f"error: `{folder}`") and words in text
  assert "\n" not in text


def test_device_that_is_not_there_is_an_error_in_one_line(
  tmp_path, monkeypatch
):
  folder = tmp_path / "folder"
  write_run(folder)

  def no_client(platform, count):
    raise ValueError(f"no device of {platform}")

  monkeypatch.setattr(exported_run, "Client", no_client)
  monkeypatch.setattr(
    sys, "argv", ["exported_run.py", str(folder), "--platform=gpu"]
  )
  with pytest.raises(SystemExit, match="^error: .*: no device of gpu$"):
    exported_run.main()
