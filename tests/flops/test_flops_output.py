# SPDX-License-Identifier: Apache-2.0
"""Where `rigl-flops` writes, and what it never replaces."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from rigl.counting import architectures

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "rigl.flops.command"]


def run(*command, stdout=subprocess.PIPE, cwd=None):
  return subprocess.run(
    command,
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
    cwd=cwd,
    env={"PYTHONPATH": str(ROOT)},
  )


@pytest.mark.parametrize(
  ("flag", "named"),
  [
    ("output", "`output` must not be the `model`"),
    ("plot", "`plot` must be a file whose name ends with"),
  ],
)
def test_the_file_that_is_counted_is_never_replaced(tmp_path, flag, named):
  place = tmp_path / "layers.json"
  layers = [dataclasses.asdict(n) for n in architectures.network("mnist_fc")]
  place.write_text(json.dumps(layers))
  flags = ["--model=layers.json", f"--{flag}={tmp_path}/./layers.json"]
  done = run(*COMMAND, *flags, cwd=tmp_path)
  assert done.returncode == 1
  assert named in done.stderr
  assert json.loads(place.read_text())[0]["name"] == layers[0]["name"]


@pytest.mark.parametrize(
  ("flag", "named"),
  [
    ("--format=xml", "`format` must be in"),
    ("--method=x", "`method` must be in"),
    ("--training_method=x", "`training_method` must be in"),
    ("--plot=a.xyz", "`plot` must be"),
  ],
)
def test_wrong_words_are_refused_before_a_model_is_read(flag, named):
  done = run(*COMMAND, "--model=none.keras", flag)
  assert done.returncode == 1 and named in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("flag", ["--help", "--model=mnist_fc"])
def test_a_full_disk_is_an_error_in_one_line(flag):
  with open("/dev/full", "w") as full:
    done = run(*COMMAND, flag, stdout=full)
  assert done.returncode == 1
  assert done.stderr == "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("flag", ["--help", "--model=mnist_fc"])
def test_without_a_standard_output_nothing_is_printed(flag):
  done = run("/bin/sh", "-c", 'exec "$0" "$@" >&-', *COMMAND, flag)
  assert (done.returncode, done.stderr) == (0, "")
