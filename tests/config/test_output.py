# SPDX-License-Identifier: Apache-2.0
"""A process goes on when nobody reads its output any more."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from rigl.config import app, output

def main(arguments):
  for i in range(3):
    print("line", i, flush=True)
    print("line", i, file=sys.stderr, flush=True)
    sys.stdin.readline()
  with open(FILE, "w") as file:
    file.write("done")

app.run(main, lambda: None)
"""


@pytest.fixture
def started(tmp_path):
  code = SCRIPT.replace("FILE", repr(str(tmp_path / "end")))

  def start(**streams):
    return subprocess.Popen(
      [sys.executable, "-c", code],
      stdin=subprocess.PIPE,
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      **streams,
    )

  return start


def go_on(process):
  process.stdin.write(b"\n" * 3)
  process.stdin.close()
  assert process.wait(60) == 0


@pytest.mark.parametrize(
  "lost", [("stdout",), ("stderr",), ("stdout", "stderr")]
)
def test_a_pipe_without_a_reader_ends_nothing(started, tmp_path, lost):
  process = started(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  assert process.stdout.readline() == b"line 0\n"
  for name in lost:
    getattr(process, name).close()
  go_on(process)
  assert (tmp_path / "end").read_text() == "done"
  if lost == ("stdout",):
    lines = process.stderr.read().decode().splitlines()
    assert lines == ["line 0", "line 1", "line 2"]


def test_a_terminal_that_is_gone_ends_nothing(started, tmp_path):
  ours, theirs = os.openpty()
  process = started(stdout=theirs, stderr=theirs)
  os.close(theirs)
  os.read(ours, 6)
  os.close(ours)
  go_on(process)
  assert (tmp_path / "end").read_text() == "done"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_error_all_the_same(started, tmp_path):
  with open("/dev/full", "w") as full:
    process = started(stdout=full, stderr=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(60) == 1
  assert b"error: [Errno 28] No space left" in process.stderr.read()
  assert not (tmp_path / "end").exists()
