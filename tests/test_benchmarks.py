# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run; their figures come from quiet machines only."""

import gzip
import json
import pathlib
import subprocess
import sys

import pytest
from workers import litert_node

# Several processes each.
pytestmark = [pytest.mark.slow, pytest.mark.long]

_BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
  ("script", "lines"),
  [
    ("mask_update.py", ["ours"]),
    ("step_time.py", ["ours rigl", "ours dense"]),
    ("step_time.py --model=resnet50", ["ours rigl", "ours dense"]),
    ("keras_step.py", ["rigl", "dense"]),
    ("keras_step.py --model=transformer", ["rigl", "dense"]),
    ("input_speed.py", ["ours", "plain, bicubic", "plain, bilinear"]),
    ("whole_run.py", ["bare steps", "whole run"]),
    ("jax_step.py --only=program;script", ["program", "script"]),
    (
      "jax_step.py --model=resnet50_jpegs --only=input;program",
      ["input", "program"],
    ),
    ("nonfinite_check.py", ["no check", "stop", "skip"]),
    ("nonfinite_check.py --script=cifar10", ["no check", "stop", "skip"]),
    ("nonfinite_check.py --script=imagenet", ["no check", "stop", "skip"]),
    (
      "sparse_training.py --sparsity=0.9",
      [
        "sparse ",
        "masked ",
        "masked_xla ",
        "dense ",
        "dense_xla ",
      ],
    ),
  ],
)
def test_benchmark_prints_a_ratio_for_every_contestant(script, lines):
  name, *flags = script.split()
  done = subprocess.run(
    [sys.executable, str(_BENCHMARKS / name), "--quick", *flags],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  # Without a second table, of images per second.
  printed = done.stdout.split("images/s")[0].splitlines()
  rows = [line for line in printed if line.startswith(tuple(lines))]
  timed = [row for row in rows if "ready" not in row and "left out" not in row]
  assert len(timed) == len(lines), done.stdout
  for row in timed:  # name, median, min, max, ratio, others
    assert float(row.split()[-2]) > 0, row


def test_devices_of_jax_are_compared():
  pytest.importorskip("jax")
  names = ["script", "script, 2 devices", "program, RigL, 2 devices"]
  done = subprocess.run(
    [
      sys.executable,
      str(_BENCHMARKS / "jax_step.py"),
      "--quick",
      "--devices=2",
      f"--only={';'.join(names)}",
    ],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  rows = done.stdout.splitlines()
  start = rows.index(next(r for r in rows if r.startswith("images/s")))
  one, two, alone = (row.split() for row in rows[start + 1 : start + 4])
  assert float(two[-1]) == pytest.approx(float(two[-2]) / float(one[-1]), 0.1)
  assert float(alone[-1]) > 0
  equal = [row for row in rows if "equal bits on all devices" in row]
  assert [row.split(": ")[0] for row in equal] == names[1:]
  assert all("exchanges in a step: 1, " in row for row in equal)


def test_dense_and_sparse_files_are_beside_each_other():
  done = subprocess.run(
    [
      sys.executable,
      str(_BENCHMARKS / "sparse_inference.py"),
      "--quick",
      "--sparsities=0.9",
    ],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  kinds = ("dense", "sparse", "int8")
  names = [f"LiteRT {kind}" for kind in kinds] + ["TensorFlow"]
  if litert_node.missing():
    assert "WebAssembly left out: " in done.stdout
  else:
    names += [f"WebAssembly {kind}" for kind in kinds]
  for name in names:
    rows = [r for r in done.stdout.splitlines() if r.startswith(name)]
    # MobileNet, and fully connected layers for 1 and 16 examples.
    assert len(rows) == 3, done.stdout
    assert all("." in row for row in rows)


def test_accuracies_of_all_methods_are_in_a_table(tmp_path):
  file = tmp_path / "accuracy.json"
  done = subprocess.run(
    [
      sys.executable,
      str(_BENCHMARKS / "keras_accuracy.py"),
      "--quick",
      f"--json={file}",
    ],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(file.read_text())["accuracy"]
  assert list(found) == ["dense", "rigl", "static"]
  for method, (accuracy,) in found.items():
    number = f"{accuracy:.2f}"
    assert f"| {method} | {number} | {number} | {number} |" in done.stdout


def test_start_time_is_that_of_the_first_step():
  done = subprocess.run(
    [sys.executable, str(_BENCHMARKS / "start_time.py"), "--quick"],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  last = done.stdout.splitlines()[-1]
  assert float(last.removeprefix("median: ").removesuffix(" s")) > 0


def test_whole_sparse_runs_are_compared_with_masked_ones():
  done = subprocess.run(
    [sys.executable, str(_BENCHMARKS / "sparse_run.py"), "--quick"],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  rows = [line.split() for line in done.stdout.splitlines()]
  for form in ("csr", "masked", "masked_xla"):
    found = [row[1:] for row in rows if row and row[0] == form]
    (median, *_), (accuracy, *_, peak) = found
    assert float(median) > 0 and float(peak) > 0
    assert 50 < float(accuracy) <= 100


def test_programs_for_a_gpu_are_written_and_run(tmp_path):
  pytest.importorskip("jax")
  folder = tmp_path / "blocks"
  script = str(_BENCHMARKS / "block_sparse.py")
  flags = ["--quick", "--action=export", f"--folder={folder}"]
  done = subprocess.run(
    [sys.executable, script, *flags], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  found = {path.name for path in folder.iterdir()}
  assert found == {
    "device_times.py",
    "jax_client.py",
    "programs.json.gz",
    "tables.npz",
  }
  with gzip.open(folder / "programs.json.gz", "rt") as file:
    programs = json.load(file)
  for program in programs:
    assert program["text"].startswith("module"), program["name"]
    assert len(program["text"]) < 100_000  # No weights inside.
    number = len(program["inputs"])
    assert f"%arg{number - 1}" in program["text"]
    assert f"%arg{number}" not in program["text"]
  script = str(folder / "device_times.py")
  flags = ["--quick", "--platform=cpu", "--only=layer"]
  done = subprocess.run(
    [sys.executable, script, *flags], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  rows = [row for row in done.stdout.splitlines() if "sparse" in row]
  assert len(rows) == 4
  assert all(float(row.split()[-1]) > 0 for row in rows)


def test_accuracies_of_blocks_are_in_a_table(tmp_path):
  file = tmp_path / "accuracy.json"
  script = str(_BENCHMARKS / "block_accuracy.py")
  done = subprocess.run(
    [sys.executable, script, "--quick", f"--json={file}"],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(file.read_text())["accuracy"]
  assert {"dense", "RigL", "block-RigL", "fixed blocks"} <= set(found)
