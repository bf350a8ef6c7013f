# SPDX-License-Identifier: Apache-2.0
"""Full disks, removed folders and missing rights: one line, and nothing lost.

Each fault happens to a real run; the run then goes on where the disk allows.
"""

import contextlib
import os
import resource
import shutil
import signal
import subprocess

import pytest
from mnist_runs import SHORT, assert_same_run

from rigl.training import checkpoints, metrics

pytestmark = pytest.mark.usefixtures("eagerly")

RUN = (*SHORT, "--training_method=rigl", "--mask_record_frequency=5")


def one_line(outcome):
  assert outcome.code == 1, outcome
  lines = outcome.err.splitlines()
  assert lines[-1].startswith("error: "), outcome.err
  assert "Traceback" not in outcome.err
  assert outcome.err.count("error: ") == 1
  return lines[-1]


@contextlib.contextmanager
def largest_file(size):
  """No file may become larger, as on a disk that is full."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@contextlib.contextmanager
def small_disk(path, size):
  """A file system of so many KiB; it needs the rights of an administrator."""
  path.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "rigl", str(path)]
  try:
    subprocess.run(command, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("mounting a file system needs the rights of an administrator")
  try:
    yield
  finally:
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 200, 5000, 100_000])
def test_a_full_disk_is_one_line_and_the_run_goes_on(shell, tmp_path, size):
  shell.done(*RUN, f"--save_path={tmp_path / 'whole'}")
  path = tmp_path / "run"
  shell.done(*RUN, "--num_epochs=1", f"--save_path={path}x")
  with largest_file(size):
    line = one_line(shell(*RUN, f"--save_path={path}"))
  assert "too large" in line or "No space" in line
  left = [p.name for p in path.rglob("*") if ".tmp" in p.name]
  assert left == []
  shell.done(*RUN, f"--save_path={path}")
  assert_same_run(tmp_path / "whole", path)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 400, 1500, 3000])
def test_a_small_disk_is_one_line(shell, tmp_path, size):
  with small_disk(tmp_path / "disk", size):
    outcome = shell(*RUN, f"--save_path={tmp_path / 'disk' / 'run'}")
    if outcome.code:
      line = one_line(outcome)
      assert "No space left on device" in line
    else:
      assert size == 3000
    for number in checkpoints.list_numbers(tmp_path / "disk" / "run"):
      checkpoints.load(str(tmp_path / "disk" / "run" / f"model.ckpt-{number}"))


@pytest.mark.parametrize("name", ["train", "eval"])
def test_a_file_in_place_of_a_folder_is_named(shell, tmp_path, name):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / name).write_text("mine")
  line = one_line(shell(*RUN, f"--save_path={tmp_path / 'run'}"))
  assert str(tmp_path / "run" / name) in line
  assert (tmp_path / "run" / name).read_text() == "mine"


@pytest.mark.parametrize(
  "name", ["metrics.csv", "model.ckpt-20.index", ".lock", "run.json"]
)
def test_a_folder_in_place_of_a_file_is_named(shell, tmp_path, name):
  (tmp_path / "run" / name).mkdir(parents=True)
  line = one_line(shell(*RUN, f"--save_path={tmp_path / 'run'}"))
  assert name in line


@pytest.mark.parametrize("kind", ["removed", "became a file"])
def test_a_run_directory_that_goes_away_is_one_line(
  shell, tmp_path, monkeypatch, kind
):
  path, write = tmp_path / "run", metrics.MetricsWriter.write

  def removing(self, *arguments):
    write(self, *arguments)
    shutil.rmtree(path)
    if kind == "became a file":
      path.write_text("mine")

  monkeypatch.setattr(metrics.MetricsWriter, "write", removing)
  line = one_line(shell(*RUN, f"--save_path={path}"))
  assert str(path) in line or "directory" in line


@pytest.mark.parametrize("path", ["/proc/run", "/dev/null/run", "/sys/run"])
def test_a_directory_that_cannot_be_made_is_named(shell, path):
  assert path in one_line(shell(*RUN, f"--save_path={path}"))


def test_a_directory_without_rights_is_named(shell, tmp_path):
  if os.geteuid() == 0:
    pytest.skip("an administrator has all rights")
  (tmp_path / "run").mkdir(mode=0o500)
  line = one_line(shell(*RUN, f"--save_path={tmp_path / 'run'}"))
  assert str(tmp_path / "run") in line
  (tmp_path / "run").chmod(0o700)


@pytest.mark.parametrize("change", ["cut", "other bytes", "no data"])
def test_unreadable_checkpoints_are_one_line(shell, tmp_path, change):
  path = tmp_path / "run"
  shell.done(*RUN, f"--save_path={path}")
  (path / "result.json").unlink()
  for file in [*path.glob("model.ckpt-*")]:
    content = file.read_bytes()
    if change == "cut":
      file.write_bytes(content[: len(content) // 2])
    elif change == "other bytes":
      file.write_bytes(bytes(len(content)))
    elif file.suffix != ".index":
      file.write_bytes(b"")
  before = {p: p.read_bytes() for p in path.glob("model.ckpt-*")}
  line = one_line(shell(*RUN, f"--save_path={path}"))
  assert "all checkpoints are damaged" in line
  assert {p: p.read_bytes() for p in path.glob("model.ckpt-*")} == before


@pytest.mark.parametrize("name", ["a[1]*?\\", "-\u00fc %s {0}"])
def test_a_directory_may_have_any_name(shell, tmp_path, monkeypatch, name):
  """TensorFlow takes some characters for patterns."""
  monkeypatch.chdir(tmp_path)
  shell.done(*RUN, "--num_epochs=1", f"--save_path={name}")
  out = shell.done(*RUN, f"--save_path={name}")
  assert "Resumed at iteration 10." in out
  assert checkpoints.list_numbers(name) == [10, 20]
  found = shell.done(
    *RUN, "--save_path=other", f"--input_mask_path={name}", "--num_epochs=1"
  )
  assert "Test accuracy" in found
  assert {p.name for p in tmp_path.iterdir()} == {name, "other"}


def test_a_name_that_is_not_in_utf8_is_refused(shell, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  line = one_line(shell(*RUN, "--save_path=run\udcff"))
  assert line == (
    "error: `save_path` must be a name in UTF-8, as TensorFlow takes it, got "
    "b'run\\xff'."
  )
  assert [*tmp_path.iterdir()] == []
