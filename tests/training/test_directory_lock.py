# SPDX-License-Identifier: Apache-2.0
"""Locks of directories, also where the system has none."""

import subprocess
import sys

import pytest
from mnist_runs import SCRIPT

from rigl.training import directory_lock

# What Python lacks on Windows.
HIDING = """
import os, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
  sys.modules[name] = None
del os.fork
"""


def test_a_system_without_locks_trains_with_a_warning(
  tmp_path, monkeypatch, caplog
):
  monkeypatch.setattr(directory_lock, "fcntl", None)
  assert directory_lock.take(tmp_path) is None
  assert directory_lock.take(tmp_path) is None
  assert list(tmp_path.iterdir()) == []
  assert [record.getMessage() for record in caplog.records] == [
    f"`{tmp_path}`: this system has no file locks; train in it with one "
    "process."
  ] * 2


def test_a_file_system_without_locks_trains_with_a_warning(
  tmp_path, monkeypatch, caplog
):
  def refuse(*arguments):
    raise OSError(95, "Operation not supported")

  monkeypatch.setattr(directory_lock.fcntl, "flock", refuse)
  directory_lock.take(tmp_path).close()
  assert "Operation not supported" in caplog.text


@pytest.mark.slow
def test_a_run_needs_no_module_that_windows_lacks(tmp_path):
  (tmp_path / "sitecustomize.py").write_text(HIDING)
  run = tmp_path / "run"
  flags = ("--use_synthetic_data", "--num_epochs=1", f"--save_path={run}")
  path = [str(tmp_path), *filter(None, sys.path)]
  done = subprocess.run(
    [sys.executable, str(SCRIPT), *flags],
    env={"PYTHONPATH": ":".join(path)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert "this system has no file locks" in done.stderr
  assert (run / "result.json").exists()
