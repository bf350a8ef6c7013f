# SPDX-License-Identifier: Apache-2.0
"""Exported runs, trained by JAX, against the normal loop."""

import importlib.util
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import warm_python
from script_runs import Shell, final_tensors, metrics

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings

pytest.importorskip("jax")

ROOT = pathlib.Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "train_on_gpu.py"
OWN_FLAGS = ("task", "folder", "action", "platform")
MNIST = (
  "--task=mnist",
  "--use_synthetic_data",
  "--num_epochs=20",  # Of 10 iterations.
  "--learning_rate=0.1",
  "--maskupdate_frequency=7",
  "--maskupdate_end_step=150",
  "--prune_begin_step=20",
  "--prune_end_step=120",
  "--pruning_frequency=9",
)
CIFAR = (
  "--task=cifar10",
  "--use_synthetic_data",
  "--resnet_depth=10",
  "--resnet_width=1",
  "--batch_size=16",
  "--max_steps=9",
  "--summaries_steps=4",
  "--checkpoint_steps=5",
  "--mode=train_and_eval",
  # Steps at the usual rate make a difference of 1e-7 one of 1e-4.
  "--gin_bindings=cifar_learning_rate.base = 0.01",
)


def load_script():
  spec = importlib.util.spec_from_file_location("train_on_gpu", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def gpu(monkeypatch, capsys):
  """Runs the script for MNIST."""
  return Shell(load_script(), MnistSettings, monkeypatch, capsys, OWN_FLAGS)


@pytest.fixture
def gpu_cifar(monkeypatch, capsys):
  """Runs the script for CIFAR-10."""
  return Shell(load_script(), CifarSettings, monkeypatch, capsys, OWN_FLAGS)


def command(folder, *arguments):
  script = folder / "exported_run.py"
  return [sys.executable, script, folder, "--platform=cpu", *arguments]


def train(folder, *arguments):
  """Runs an exported folder; returns what it printed."""
  found = subprocess.run(
    command(folder, *arguments), capture_output=True, text=True
  )
  assert found.returncode == 0, found.stderr
  return found.stdout


def assert_same_training(ours, usual, atol, slot_atol):
  """Masks and steps are equal, floats close, the same rows in metrics.csv."""
  a, b = final_tensors(ours), final_tensors(usual)
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype
    if name.endswith("/mask") or a[name].dtype.kind != "f":
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    else:
      limit = slot_atol if name.endswith("/Momentum") else atol
      np.testing.assert_allclose(
        a[name], b[name], rtol=0, atol=limit, err_msg=name
      )
  rows, expected = metrics(ours), metrics(usual)
  assert len(rows) == len(expected)
  for row, other in zip(rows, expected, strict=True):
    # How fast it went elsewhere is not known here.
    assert row.keys() ^ other.keys() == {"steps_per_second"}
    for name in row.keys() & other.keys():
      if row[name] == "" or other[name] == "":
        assert row[name] == other[name]
        continue
      assert float(row[name]) == pytest.approx(
        float(other[name]), rel=100 * atol, abs=100 * atol
      ), name


def assert_same_end(one, other):
  """Two folders were trained to the same bits and results."""
  with (
    np.load(one / "state-end.npz") as a,
    np.load(other / "state-end.npz") as b,
  ):
    assert set(a.files) == set(b.files)
    for name in a.files:
      assert a[name].tobytes() == b[name].tobytes(), name
  results = [(f / "results.jsonl").read_text() for f in (one, other)]
  assert results[0] == results[1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """(folder, run directory): an exported run of RigL, not to be changed."""
  place = tmp_path_factory.mktemp("exported")
  folder, path = place / "folder", place / "run"
  subprocess.run(
    warm_python.command(
      SCRIPT,
      *MNIST,
      "--training_method=rigl",
      "--gin_bindings=SparseRigLOptimizer.noise_std = 0.001",
      "--action=export",
      f"--folder={folder}",
      f"--save_path={path}",
    ),
    check=True,
    capture_output=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  return folder, path


@pytest.fixture
def folder(exported, tmp_path):
  """A copy of the exported folder."""
  return pathlib.Path(shutil.copytree(exported[0], tmp_path / "folder"))


@pytest.fixture(scope="module")
def whole(exported, tmp_path_factory):
  """The exported folder, trained in one go; not to be changed."""
  place = tmp_path_factory.mktemp("whole") / "folder"
  place = pathlib.Path(shutil.copytree(exported[0], place))
  assert "finished after" in train(place)
  return place


@pytest.fixture
def normal_loop(monkeypatch, capsys):
  """Trains by the normal loop; gets the task's script and settings."""

  def train(script, settings_class, *arguments):
    shell = Shell(script, settings_class, monkeypatch, capsys)
    run = shell.run_of(*arguments)
    run.prepare()
    run.run()
    run.finish()
    return run.directory.path

  return train


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rigl", "snip", "prune"])
def test_200_iterations_agree_with_the_normal_loop(
  gpu, normal_loop, tmp_path, method
):
  flags = (*MNIST, f"--training_method={method}")
  ours = tmp_path / "ours"
  out = gpu.done(
    *flags,
    "--action=all",
    "--platform=cpu",
    f"--folder={tmp_path / 'folder'}",
    f"--save_path={ours}",
  )
  assert f"Run directory: {ours}" in out and "Test accuracy: " in out
  usual = normal_loop(
    mnist_train_eval,
    MnistSettings,
    *flags[1:],
    f"--save_path={tmp_path / 'usual'}",
  )
  assert_same_training(ours, usual, 1e-5, 1e-5)
  results = [
    json.loads((path / "result.json").read_text()) for path in (ours, usual)
  ]
  assert results[0] == pytest.approx(results[1], abs=1e-3)
  assert results[0]["iteration"] == 200


# A second update is chaotic: of gradients that are nearly the same, the largest
# depends on how a convolution rounds.
@pytest.mark.slow
@pytest.mark.long
def test_tiny_wide_resnet_agrees_with_the_normal_loop(
  gpu_cifar, normal_loop, tmp_path
):
  flags = (*CIFAR, "--training_method=rigl", "--maskupdate_frequency=100")
  gpu_cifar.done(
    *flags,
    "--action=all",
    "--platform=cpu",
    f"--folder={tmp_path / 'folder'}",
    f"--train_dir={tmp_path / 'ours'}",
  )
  usual = normal_loop(
    resnet_train_eval,
    CifarSettings,
    *flags[1:],
    f"--train_dir={tmp_path / 'usual'}",
  )
  ours = tmp_path / "ours" / usual.relative_to(tmp_path / "usual")
  assert_same_training(ours, usual, 2e-4, 0.01)


@pytest.mark.slow
def test_run_that_is_stopped_ends_with_the_same_bits(whole, folder):
  for _ in range(2):
    assert "stopped after" in train(folder, "--seconds=0.05")
  assert "finished after" in train(folder)
  assert_same_end(folder, whole)
  again = subprocess.run(command(whole), capture_output=True, text=True)
  assert again.returncode == 1
  assert again.stderr == f"The run in {whole} is finished.\n"


@pytest.mark.slow
def test_killed_run_ends_with_the_same_bits(whole, folder):
  generator = random.Random(0)
  for _ in range(3):
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL)
    results = folder / "results.jsonl"
    start = time.monotonic()
    size = results.stat().st_size if results.exists() else 0
    while process.poll() is None and time.monotonic() < start + 60:
      if results.exists() and results.stat().st_size > size:
        break
      time.sleep(0.005)
    time.sleep(generator.uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (folder / "state-end.npz").exists():
      break
  if not (folder / "state-end.npz").exists():
    train(folder)
  assert_same_end(folder, whole)


@pytest.mark.slow
def test_finish_makes_the_files_of_the_run_once(gpu, exported, folder):
  path = exported[1]
  finish = ("--task=mnist", "--action=finish", f"--folder={folder}")
  early = gpu(*finish)
  assert early.code == 1 and early.err.count("\n") == 1
  assert "is not finished" in early.err and str(folder) in early.err
  train(folder)
  assert f"Run directory: {path}" in gpu.done(*finish)
  before = {p: p.read_bytes() for p in path.iterdir() if p.is_file()}
  assert (path / "result.json") in before and (path / "metrics.csv") in before
  # The binding that was exported with it.
  assert "noise_std = 0.001" in (path / "operative_config.gin").read_text()
  assert f"The run in {path} is finished." in gpu.done(*finish)
  after = {p: p.read_bytes() for p in path.iterdir() if p.is_file()}
  assert after == before


@pytest.mark.parametrize(
  "name, content, words",
  [
    ("flags.json", "{", "is damaged: "),
    ("flags.json", "[1]", "is damaged: "),
    ("flags.json", "[[1, 2, 3]]", "is damaged: "),
    ("flags.json", '[["no_flag", 1]]', "`--task` mnist takes no --no_flag=1"),
    ("flags.json", '[["num_epochs", "x"]]', "takes no --num_epochs=x"),
    ("results.jsonl", "x", "is damaged: "),
    ("state-end.npz", "x", "is damaged: "),
    ("state-end.npz", "PK", "is damaged: "),
  ],
)
def test_finish_of_damaged_files_is_an_error_in_one_line(
  gpu, tmp_path, name, content, words
):
  typed = [["use_synthetic_data", True], ["save_path", str(tmp_path / "run")]]
  (tmp_path / "flags.json").write_text(json.dumps(typed))
  (tmp_path / "results.jsonl").touch()
  np.savez(tmp_path / "state-end.npz", a=np.zeros(2))
  (tmp_path / name).write_text(content)
  found = gpu("--task=mnist", "--action=finish", f"--folder={tmp_path}")
  assert found.code == 1 and found.out == ""
  assert found.err.startswith("error: ") and found.err.count("\n") == 1
  assert words in found.err
  assert str(tmp_path / name) in found.err or name == "flags.json"


@pytest.mark.slow
def test_folder_that_holds_an_export_is_left_alone(gpu, folder, tmp_path):
  before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
  found = gpu(
    *MNIST,
    "--action=export",
    f"--folder={folder}",
    f"--save_path={tmp_path / 'run'}",
  )
  assert found.code == 1 and found.err.count("\n") == 1
  assert f"`{folder}` holds an exported run already" in found.err
  assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
  ("arguments", "named"),
  [
    (["--action=export"], "`--folder` must be given"),
    (["--action=finish", "--folder=/nowhere"], "`/nowhere` is not finished"),
    (["--action=foo", "--folder=x"], "--action=foo"),
    (["--task=foo", "--folder=x"], "--task=foo"),
    (
      ["--action=export", "--folder=x", "--mask_record_frequency=5"],
      "`mask_record_frequency` must be 0",
    ),
    (["--action=export", "--folder=x", "--seed=-1"], "`seed`"),
  ],
)
def test_wrong_argument_is_named_in_one_line(
  gpu, tmp_path, monkeypatch, arguments, named
):
  monkeypatch.chdir(tmp_path)
  found = gpu(*MNIST, "--save_path=run", "--training_method=rigl", *arguments)
  assert found.code == 1
  assert found.err.startswith("error: ") and found.err.count("\n") == 1
  assert named in found.err
  assert not (tmp_path / "x").exists()
