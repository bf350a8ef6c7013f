# SPDX-License-Identifier: Apache-2.0
"""Benchmarks refuse what they cannot measure or write before they begin."""

import argparse
import pathlib
import subprocess
import sys

import argument_types
import pytest

_BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
  "read, text, value",
  [
    (argument_types.count, "1", 1),
    (argument_types.seed, "0", 0),
    (argument_types.sparsity, "0", 0.0),
    (argument_types.sparsity, "0.99", 0.99),
    (argument_types.share, "1", 1.0),
  ],
)
def test_numbers_are_read(read, text, value):
  found = read(text)
  assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
  "read, text, words",
  [
    (argument_types.count, "0", "at least 1, got '0'"),
    (argument_types.count, "1.5", "at least 1, got '1.5'"),
    (argument_types.seed, "-1", "at least 0, got '-1'"),
    (argument_types.seed, "x", "at least 0, got 'x'"),
    (argument_types.sparsity, "1", r"must be in \[0, 1\), got '1'"),
    (argument_types.sparsity, "-0.1", r"must be in \[0, 1\), got '-0.1'"),
    (argument_types.sparsity, "nan", r"must be in \[0, 1\), got 'nan'"),
    (argument_types.sparsity, "x", "must be a number, got 'x'"),
    (argument_types.share, "1.1", r"must be in \[0, 1\], got '1.1'"),
    (argument_types.figure, "x.gif", "must end with one of .* got 'x.gif'"),
    (argument_types.figure, "no/such/x.png", "no directory 'no/such'"),
  ],
)
def test_wrong_values_are_refused(read, text, words):
  with pytest.raises(argparse.ArgumentTypeError, match=words):
    read(text)


def test_files_that_can_be_written_are_taken(tmp_path):
  (tmp_path / "old.png").write_text("kept")
  for name in ("new.png", "old.png"):
    for read in (argument_types.output, argument_types.figure):
      assert read(str(tmp_path / name)) == str(tmp_path / name)
  assert (tmp_path / "old.png").read_text() == "kept"
  assert not (tmp_path / "new.png").exists()
  assert argument_types.output("x.json") == "x.json"  # In the folder of now.


def test_files_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
  (tmp_path / "file").touch()
  for place, words in (
    (tmp_path, "must be a file"),
    (tmp_path / "file" / "x", "there is no directory"),
    (tmp_path / "no" / "x", "there is no directory"),
  ):
    with pytest.raises(argparse.ArgumentTypeError, match=words):
      argument_types.output(str(place))
  monkeypatch.setattr(argument_types.os, "access", lambda place, mode: False)
  with pytest.raises(argparse.ArgumentTypeError, match="cannot be written"):
    argument_types.output(str(tmp_path / "x"))


# Those that start without TensorFlow; the others use the same types.
@pytest.mark.parametrize(
  "command, words",
  [
    ("mask_update.py --rounds=0", "--rounds: must be a whole number"),
    (
      "whole_run.py --json=no/such/x",
      "--json: there is no directory 'no/such'",
    ),
    ("sparse_training.py --sparsity 0.9 1", "--sparsity: must be in [0, 1)"),
    ("sparse_training.py --plot=x.txt", "--plot: must end with one of"),
    ("sparse_run.py --seeds=0", "--seeds: must be a whole number"),
    ("start_time.py --rounds=-1", "--rounds: must be a whole number"),
    ("block_sparse.py --action=run --folder=no", "no programs in no"),
    ("block_sparse.py --rounds=x", "--rounds: must be a whole number"),
  ],
)
def test_benchmark_refuses_wrong_arguments(tmp_path, command, words):
  name, *flags = command.split()
  done = subprocess.run(
    [sys.executable, str(_BENCHMARKS / name), *flags],
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  assert done.returncode == 2 and done.stdout == ""
  assert words in done.stderr.splitlines()[-1]
  assert "Traceback" not in done.stderr
  assert list(tmp_path.iterdir()) == []
