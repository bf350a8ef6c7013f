"""The benchmarks run; their figures come from quiet machines only."""

import pathlib
import subprocess
import sys

import pytest

_BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
  ("script", "lines"),
  [
    ("mask_update.py", ["ours"]),
    ("step_time.py", ["ours rigl", "ours dense"]),
    ("whole_run.py", ["bare steps", "whole run"]),
  ],
)
def test_benchmark_prints_a_ratio_for_every_contestant(script, lines):
  done = subprocess.run(
    [sys.executable, str(_BENCHMARKS / script), "--quick"],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  rows = [
    line for line in done.stdout.splitlines() if line.startswith(tuple(lines))
  ]
  timed = [row for row in rows if "ready" not in row and "left out" not in row]
  assert len(timed) == len(lines), done.stdout
  for row in timed:  # name, median, min, max, ratio, others
    assert float(row.split()[-2]) > 0, row
