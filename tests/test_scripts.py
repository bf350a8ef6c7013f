# SPDX-License-Identifier: Apache-2.0
"""The scripts in scripts/, run as a user runs them."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def table_rows(text):
  lines = [line for line in text.splitlines() if line.startswith("|")]
  return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


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


def test_configurations_of_one_method_have_their_own_rows(tmp_path):
  make_run(tmp_path, "set", 0, 0.90)
  make_run(tmp_path, "set", 1, 0.92)
  (tmp_path / "set_seed1").rename(tmp_path / "set_itop_seed0")
  rows = table_rows(run_table(tmp_path).stdout)[2:]
  assert [(row[0], row[4]) for row in rows] == [
    ("set_itop", "92.00"),
    ("set", "90.00"),
  ]
  (row,) = table_rows(run_table(tmp_path / "set_itop_seed0").stdout)[2:]
  assert row[0] == "set"


def test_table_without_runs_is_an_error_in_one_line(tmp_path):
  result = run_table(tmp_path)
  assert result.returncode == 1
  assert result.stderr.startswith("error: no runs in")
  assert len(result.stderr.splitlines()) == 1


def test_runs_that_cannot_be_read_are_left_out_of_the_table(tmp_path):
  settings = {"training_method": "set"}
  damage = {
    "a": ("run.json", b"{", "run.json is damaged"),
    "b": ("run.json", b"[1]", "run.json is damaged"),
    "c": ("run.json", b"{}", "lacks 'settings'"),
    "d": ("run.json", json.dumps({"settings": settings}), "lacks 'max_steps'"),
    "e": ("result.json", b"\xff", "result.json is damaged"),
    "f": ("result.json", b"{}", "lacks 'test_accuracy'"),
    "g": (
      "result.json",
      b'{"test_accuracy": "x", "sparsity": 0}',
      "could not convert string to float: 'x'",
    ),
    "h": ("metrics.csv", b"\xff", "metrics.csv is damaged"),
    "i": ("metrics.csv", b"a\n" + b"x" * 200_000, "metrics.csv is damaged"),
  }
  reasons = []
  for name, (file, content, reason) in damage.items():
    make_run(tmp_path, name, 0, 0.90)
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / f"{name}_seed0" / file).write_bytes(content)
    reasons.append(f"{name}_seed0 ({reason})")
  make_run(tmp_path, "set", 0, 0.92)
  result = run_table(tmp_path)
  assert result.returncode == 0 and result.stderr == ""
  assert [row[0] for row in table_rows(result.stdout)[2:]] == ["set"]
  assert result.stdout.endswith(f"\n\nLeft out: {', '.join(reasons)}.\n")


def test_workers_of_no_program_are_an_error_in_one_line(tmp_path):
  script = str(ROOT / "scripts" / "run_workers.py")
  (tmp_path / "file").touch()
  for name in ("no_such_program", "./file", "."):
    done = subprocess.run(
      [sys.executable, script, "--", name],
      capture_output=True,
      text=True,
      cwd=tmp_path,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and name in done.stderr
    assert done.stderr.count("\n") == 1


def run_all(directory, *arguments):
  return subprocess.run(
    [
      sys.executable,
      str(ROOT / "scripts" / "train_all.py"),
      *arguments[:1],
      f"--output={directory}",
      *arguments[1:],
    ],
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
def test_runs_train_side_by_side_and_resume(tmp_path):
  flags = ("mnist", "--configs=set", "--seeds=0,1", "--jobs=2")
  short = ("--", "--num_epochs=1", "--use_synthetic_data")
  short += ("--jit_compile=false",)
  first = run_all(tmp_path, *flags, *short)
  assert first.returncode == 0, first.stdout + first.stderr
  lines = (tmp_path / "results.jsonl").read_text().splitlines()
  found = [json.loads(line) for line in lines]
  keys = [(n["run"], n["training_method"], n["seed"]) for n in found]
  assert keys == [("set_seed0", "set", 0), ("set_seed1", "set", 1)]
  ((method, _, length, seeds, mean, *_),) = table_rows(first.stdout)[2:]
  assert (method, length, seeds) == ("set", "1 epochs", "2")
  accuracies = [n["test_accuracy"] for n in found]
  assert float(mean) == pytest.approx(50 * sum(accuracies), abs=0.006)
  assert (tmp_path / "table.md").read_text() in first.stdout
  # The epoch's lines are in the logs, not on the screen.
  assert "test loss" not in first.stdout
  assert "test loss" in (tmp_path / "set_seed0.log").read_text()

  # A lost result comes back, one run is refused, and no run is trained again.
  (tmp_path / "results.jsonl").write_text("")
  metrics = tmp_path / "set_seed0" / "metrics.csv"
  before = metrics.stat().st_mtime_ns
  wrong = tmp_path / "set_seed1" / "run.json"
  wrong.write_text(wrong.read_text().replace('"seed": 1', '"seed": 5'))
  again = run_all(tmp_path, *flags, *short)
  assert again.returncode == 1
  assert "set_seed1: exit code 1; the end of" in again.stderr
  assert metrics.stat().st_mtime_ns == before
  kept = (tmp_path / "results.jsonl").read_text().splitlines()
  assert kept[0] == lines[0]


@pytest.mark.slow
def test_runs_stop_with_all_their_processes(tmp_path):
  flags = ["--configs=set,static", "--jobs=1"]
  flags += ["--", "--num_epochs=999", "--use_synthetic_data"]
  script = str(ROOT / "scripts" / "train_all.py")
  with subprocess.Popen(
    [sys.executable, script, "mnist", f"--output={tmp_path}", *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    metrics = tmp_path / "set_seed0" / "metrics.csv"
    while not (metrics.exists() and metrics.read_text().count("\n") > 1):
      assert process.poll() is None
      time.sleep(0.2)
    process.terminate()
    _, errors = process.communicate()
  assert process.returncode == 143
  assert errors == "Stopped. The same command resumes the runs.\n"
  # The run that trained has saved its state, and no other was started.
  assert list((tmp_path / "set_seed0").glob("model.ckpt-*.index"))
  assert not (tmp_path / "static_seed0").exists()


@pytest.mark.slow
def test_cifar10_trains_and_prints_a_table(tmp_path):
  short = ("--", "--use_synthetic_data", "--resnet_depth=10")
  short += ("--resnet_width=1", "--batch_size=16", "--max_steps=2")
  flags = ("cifar10", "--configs=rigl_erk_0.9", "--seeds=3")
  result = run_all(tmp_path, *flags, *short)
  assert result.returncode == 0, result.stdout + result.stderr
  ((method, sparsity, length, seeds, *_),) = table_rows(result.stdout)[2:]
  assert (method, length, seeds) == ("rigl_erk_0.9", "2 steps", "1")
  assert float(sparsity) == pytest.approx(0.9, abs=1e-3)
  (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
  assert json.loads(line)["run"] == "rigl_erk_0.9_seed3"


@pytest.fixture
def train_all():
  path = ROOT / "scripts" / "train_all.py"
  spec = importlib.util.spec_from_file_location("train_all", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_processes_take_gpus_in_turns(train_all, tmp_path, monkeypatch):
  script = tmp_path / "script.py"
  script.write_text(
    "import os, sys, time\n"
    "gpu = os.environ['CUDA_VISIBLE_DEVICES']\n"
    f"open({str(tmp_path)!r} + '/' + sys.argv[2][7:], 'w').write(gpu)\n"
  )
  task = train_all.Task(str(script), "path")
  monkeypatch.setitem(train_all.TASKS, "mnist", task)
  runs = train_all.Runs("mnist", tmp_path, [], jobs=3, gpus=[4, 7])
  assert [runs.train("rigl", seed) for seed in range(4)] == [None] * 4
  found = [(tmp_path / str(seed)).read_text() for seed in range(4)]
  assert found == ["4", "7", "4", "4"]


def test_files_in_the_way_are_errors_in_one_line(
  train_all, tmp_path, monkeypatch, capsys
):
  script = tmp_path / "script.py"
  script.write_text(
    "import pathlib, sys\n"
    "place = pathlib.Path(sys.argv[3][7:])\n"
    "place.mkdir()\n"
    'settings = \'"training_method": "set", "seed": 1, "max_steps": 3\'\n'
    "text = '{\"settings\": {' + settings + '}}'\n"
    "(place / 'run.json').write_text(text)\n"
    "(place / 'result.json').write_text('{\"test_accuracy\": 1')\n"
  )
  task = train_all.Task(str(script), "path")
  monkeypatch.setitem(train_all.TASKS, "mnist", task)
  for name in ("set_seed1.log", "table.md"):
    (tmp_path / "runs" / name).mkdir(parents=True)
  command = ["mnist", f"--output={tmp_path / 'runs'}", "--configs=set"]
  assert train_all.main([*command, "--seeds=0,1"]) == 1
  out, error = capsys.readouterr()
  assert "Left out: set_seed0 (result.json is damaged)." in out
  lines = error.splitlines()
  assert len(lines) == 2
  assert (
    lines[0].startswith("set_seed1: [Errno") and "set_seed1.log" in lines[0]
  )
  assert lines[1].startswith("error: [Errno") and "table.md" in lines[1]
  assert (tmp_path / "runs" / "results.jsonl").read_text() == ""


@pytest.mark.parametrize(
  "arguments, words",
  [
    (("mnist", "--configs=rigl,rigle"), "`configs` must be in ["),
    (("cifar10", "--configs=rigl_0.9"), "`configs` must be in ["),
    (("mnist", "--jobs=0"), "`jobs` must be at least 1, got 0"),
    (("mnist", "--seeds="), "`seeds` must be numbers with commas, got ''"),
    (("mnist", "--gpus=a"), "`gpus` must be numbers with commas, got 'a'"),
    (("imagenet",), "invalid choice: 'imagenet'"),
  ],
)
def test_wrong_flags_are_refused(tmp_path, arguments, words):
  result = run_all(tmp_path / "runs", *arguments)
  assert result.returncode == 2
  assert words in result.stderr
  assert not (tmp_path / "runs").exists()
