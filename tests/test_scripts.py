# SPDX-License-Identifier: Apache-2.0
"""The scripts in scripts/, run as a user runs them."""

import json
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run_mnist(environment, tmp_path, **variables):
  return run_script("mnist.sh", environment, tmp_path, **variables)


def run_script(name, environment, tmp_path, **variables):
  return subprocess.run(
    ["bash", str(ROOT / "scripts" / name)],
    env={**environment, **variables},
    cwd=tmp_path,
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
  )


def table_rows(text):
  lines = [line for line in text.splitlines() if line.startswith("|")]
  return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.slow
def test_mnist_trains_prints_a_table_and_resumes(environment, tmp_path):
  variables = {
    "EPOCHS": "1",
    "METHODS": "rigl set",
    "OUT": "runs",
    "EXTRA_FLAGS": "--use_synthetic_data --maskupdate_frequency=4 "
    "--jit_compile=false",
  }
  first = run_mnist(environment, tmp_path, **variables)
  assert first.returncode == 0, first.stdout + first.stderr
  assert "installing" not in first.stderr
  _, _, *rows = table_rows(first.stdout)
  assert {row[0] for row in rows} == {"rigl", "set"}
  assert all(row[2:4] == ["1 epochs", "1"] for row in rows)
  results = {
    method: json.loads(
      (tmp_path / "runs" / f"{method}_seed0" / "result.json").read_text()
    )
    for method in ("rigl", "set")
  }
  for method, sparsity, _, _, mean, span, speed in rows:
    accuracy = f"{100 * results[method]['test_accuracy']:.2f}"
    assert (mean, span) == (accuracy, f"{accuracy}..{accuracy}")
    assert float(sparsity) == pytest.approx(results[method]["sparsity"], 1e-3)
    assert float(speed) > 0
  # The epoch's lines are in the logs, not on the screen.
  assert "test loss" not in first.stdout
  log = tmp_path / "runs" / "rigl_seed0.log"
  assert "test loss" in log.read_text()

  variables["METHODS"] = "rigl"
  again = run_mnist(environment, tmp_path, **variables)
  assert again.returncode == 0, again.stdout + again.stderr
  assert "is finished" in log.read_text()
  assert table_rows(again.stdout) == table_rows(first.stdout)

  longer = run_mnist(environment, tmp_path, **{**variables, "EPOCHS": "2"})
  assert longer.returncode == 0, longer.stdout + longer.stderr
  assert "Resumed at " in log.read_text()
  lengths = {row[0]: row[2] for row in table_rows(longer.stdout)[2:]}
  assert lengths == {"rigl": "2 epochs", "set": "1 epochs"}


def test_mnist_refuses_an_unknown_method(environment, tmp_path):
  result = run_mnist(environment, tmp_path, METHODS="rigl rigle")
  assert result.returncode == 2
  assert "configs/mnist/rigle.gin" in result.stderr
  assert not (tmp_path / "rigl_runs").exists()


@pytest.mark.slow
def test_cifar10_trains_and_prints_a_table(environment, tmp_path):
  result = run_script(
    "cifar10.sh",
    environment,
    tmp_path,
    METHODS="rigl_erk_0.9",
    SEEDS="3",
    OUT="runs",
    EXTRA_FLAGS="--use_synthetic_data --resnet_depth=10 --resnet_width=1 "
    "--batch_size=16 --max_steps=2",
  )
  assert result.returncode == 0, result.stdout + result.stderr
  ((method, sparsity, length, seeds, *_),) = table_rows(result.stdout)[2:]
  assert (method, length, seeds) == ("rigl", "2 steps", "1")
  assert float(sparsity) == pytest.approx(0.9, abs=1e-3)


def test_cifar10_refuses_an_unknown_row(environment, tmp_path):
  result = run_script("cifar10.sh", environment, tmp_path, METHODS="rigl_0.9")
  assert result.returncode == 2
  assert "configs/cifar10/rigl_0.9.gin" in result.stderr


def make_run(directory, method, seed, accuracy, sparsity=0.9, epochs=5):
  """Writes what the training script leaves of a run."""
  place = directory / f"{method}_seed{seed}"
  place.mkdir(parents=True)
  settings = {"training_method": method, "num_epochs": epochs, "seed": seed}
  (place / "run.json").write_text(json.dumps({"settings": settings}))
  (place / "metrics.csv").write_text(
    "iteration,steps_per_second\n600,100.0\n1200,300.0\n1800,200.0\n"
  )
  if accuracy is not None:
    result = {"test_accuracy": accuracy, "sparsity": sparsity}
    (place / "result.json").write_text(json.dumps(result))


def run_table(directory):
  return subprocess.run(
    [
      sys.executable,
      str(ROOT / "scripts" / "results_table.py"),
      str(directory),
    ],
    capture_output=True,
    text=True,
  )


def test_table_has_mean_and_range_over_seeds(tmp_path):
  make_run(tmp_path, "set", 0, 0.90)
  make_run(tmp_path, "set", 1, 0.92)
  make_run(tmp_path, "rigl", 0, 0.95)
  make_run(tmp_path, "prune", 0, None)
  result = run_table(tmp_path)
  assert result.returncode == 0, result.stderr
  header, _, *rows = table_rows(result.stdout)
  assert header[0] == "Method"
  assert rows == [
    ["rigl", "0.9000", "5 epochs", "1", "95.00", "95.00..95.00", "200"],
    ["set", "0.9000", "5 epochs", "2", "91.00", "90.00..92.00", "200"],
  ]
  assert "Not finished: prune_seed0." in result.stdout


def test_runs_of_other_length_or_sparsity_have_their_own_rows(tmp_path):
  make_run(tmp_path, "set", 0, 0.90)
  make_run(tmp_path, "set", 1, 0.92, epochs=6)
  make_run(tmp_path, "set", 2, 0.94, sparsity=0.8)
  rows = table_rows(run_table(tmp_path).stdout)[2:]
  assert [row[3] for row in rows] == ["1", "1", "1"]


def test_table_without_runs_is_an_error_in_one_line(tmp_path):
  result = run_table(tmp_path)
  assert result.returncode == 1
  assert result.stderr.startswith("error: no runs in")
  assert len(result.stderr.splitlines()) == 1


def run_methods(directory, *arguments):
  return subprocess.run(
    [
      sys.executable,
      str(ROOT / "scripts" / "mnist_table.py"),
      f"--output={directory}",
      *arguments,
    ],
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
def test_mnist_methods_train_side_by_side_and_resume(tmp_path):
  flags = ("--methods=set", "--seeds=2", "--num_epochs=1", "--jobs=2")
  short = ("--", "--use_synthetic_data", "--jit_compile=false")
  first = run_methods(tmp_path, *flags, *short)
  assert first.returncode == 0, first.stdout + first.stderr
  lines = (tmp_path / "results.jsonl").read_text().splitlines()
  found = [json.loads(line) for line in lines]
  keys = {(n["training_method"], n["seed"], n["num_epochs"]) for n in found}
  assert keys == {("set", 0, 1), ("set", 1, 1)}
  ((method, _, length, seeds, mean, *_),) = table_rows(first.stdout)[2:]
  assert (method, length, seeds) == ("set", "1 epochs", "2")
  accuracies = [n["test_accuracy"] for n in found]
  assert float(mean) == pytest.approx(50 * sum(accuracies), abs=0.006)

  # A lost result comes back, one run is refused, and no run is trained again.
  (tmp_path / "results.jsonl").write_text("")
  metrics = tmp_path / "set_seed0" / "metrics.csv"
  before = metrics.stat().st_mtime_ns
  wrong = tmp_path / "set_seed1" / "run.json"
  wrong.write_text(wrong.read_text().replace('"seed": 1', '"seed": 5'))
  again = run_methods(tmp_path, *flags, *short)
  assert again.returncode == 1
  assert "set_seed1: exit code 1; the end of" in again.stderr
  assert metrics.stat().st_mtime_ns == before
  kept = (tmp_path / "results.jsonl").read_text().splitlines()
  assert kept[0] == lines[0]


@pytest.mark.slow
def test_mnist_methods_stop_with_all_their_processes(tmp_path):
  flags = ["--methods=set,static", "--seeds=1", "--jobs=1", "--num_epochs=999"]
  flags += ["--", "--use_synthetic_data", "--jit_compile=false"]
  script = str(ROOT / "scripts" / "mnist_table.py")
  with subprocess.Popen(
    [sys.executable, script, f"--output={tmp_path}", *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    while not (tmp_path / "set_seed0" / "metrics.csv").exists():
      assert process.poll() is None
      time.sleep(0.2)
    process.terminate()
    _, errors = process.communicate()
  assert process.returncode == 143
  assert errors == "Stopped. The same command resumes the runs.\n"
  # The run that trained has saved its state, and no other was started.
  assert list((tmp_path / "set_seed0").glob("model.ckpt-*.index"))
  assert not (tmp_path / "static_seed0").exists()


@pytest.mark.parametrize(
  "flag, words",
  [
    ("--methods=rigl,rigle", "`methods` must be in ["),
    ("--jobs=0", "`jobs` must be at least 1, got 0"),
    ("--seeds=0", "`seeds` must be at least 1, got 0"),
    ("--num_epochs=-1", "`num_epochs` must be at least 1, got -1"),
  ],
)
def test_mnist_methods_refuse_wrong_flags(tmp_path, flag, words):
  result = run_methods(tmp_path / "runs", flag)
  assert result.returncode == 2
  assert words in result.stderr
  assert not (tmp_path / "runs").exists()
