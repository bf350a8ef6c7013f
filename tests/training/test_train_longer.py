# SPDX-License-Identifier: Apache-2.0
"""The same command with more steps continues a run."""

import json

import cifar_runs
import mnist_runs
import pytest
from script_runs import assert_same_tensors, metrics

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.training import checkpoints

METHOD = ("--training_method=rigl", "--mask_record_frequency=5")


@pytest.fixture
def mnist(eagerly, monkeypatch, capsys):
  del eagerly
  return mnist_runs.Shell(mnist_train_eval, MnistSettings, monkeypatch, capsys)


@pytest.fixture
def cifar(eagerly, monkeypatch, capsys):
  del eagerly
  return cifar_runs.Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys)


def contents(path):
  return {f: f.read_bytes() for f in path.rglob("*") if f.is_file()}


def test_a_finished_run_goes_on_and_keeps_its_result(mnist, tmp_path):
  first, whole = tmp_path / "first", tmp_path / "whole"
  mnist.train(first, *METHOD, "--num_epochs=1")
  result = (first / "result.json").read_text()
  out = mnist.train(first, *METHOD, "--num_epochs=3")
  assert "Resumed at iteration 10." in out
  assert (first / "result-10.json").read_text() == result
  mnist.train(whole, *METHOD, "--num_epochs=3")
  mnist_runs.assert_same_run(first, whole)
  both = [json.loads((p / "run.json").read_text()) for p in (first, whole)]
  assert both[0] == both[1]
  # The earlier command is finished as before.
  out = mnist.train(first, *METHOD, "--num_epochs=1")
  assert "is finished." in out
  assert f"{json.loads(result)['test_accuracy']:.4f}" in out
  assert "is finished." in mnist.train(first, *METHOD, "--num_epochs=3")


def test_a_run_that_is_not_finished_gets_another_end(
  mnist, monkeypatch, tmp_path
):
  class KilledError(Exception):
    pass

  advance = TensorFlowExecutor.advance

  def kill(executor, iteration, limit):
    if iteration == 20:
      raise KilledError
    return advance(executor, iteration, limit)

  with monkeypatch.context() as patch:
    patch.setattr(TensorFlowExecutor, "advance", kill)
    with pytest.raises(KilledError):
      mnist.train(
        tmp_path / "a", *METHOD, "--num_epochs=4", "--checkpoint_epochs=1"
      )
  # Later, and not as late as it was meant to be.
  out = mnist.train(tmp_path / "a", *METHOD, "--num_epochs=3")
  assert "Resumed at iteration 20." in out
  mnist.train(tmp_path / "b", *METHOD, "--num_epochs=3")
  mnist_runs.assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("is_finished", [True, False])
def test_fewer_steps_than_are_done_are_refused(mnist, tmp_path, is_finished):
  mnist.train(tmp_path, *METHOD, "--num_epochs=3")
  if not is_finished:
    (tmp_path / "result.json").unlink()
  before = contents(tmp_path)
  flags = (*mnist_runs.SHORT, *METHOD, f"--save_path={tmp_path}")
  outcome = mnist(*flags, "--num_epochs=2")
  assert outcome.code == 1
  assert outcome.err == (
    "error: `num_epochs` ends the run at iteration 20, but the one in "
    f"`{tmp_path}` is at iteration 30 already; raise `num_epochs` or choose "
    "another directory.\n"
  )
  assert contents(tmp_path) == before


@pytest.mark.parametrize(
  "flag, named",
  [
    ("--learning_rate=0.3", "learning_rate = 0.1 there, 0.3 now"),
    ("--maskupdate_end_step=30", "maskupdate_end_step = 1000 there, 30 now"),
    ("--seed=4", "seed = 0 there, 4 now"),
  ],
)
def test_more_steps_of_another_run_are_refused(mnist, tmp_path, flag, named):
  mnist.train(tmp_path, *METHOD, "--num_epochs=1")
  before = contents(tmp_path)
  flags = (*mnist_runs.SHORT, *METHOD, f"--save_path={tmp_path}")
  outcome = mnist(*flags, "--num_epochs=2", flag)
  assert outcome.code == 1
  assert named in outcome.err
  assert contents(tmp_path) == before


@pytest.mark.slow
def test_an_end_between_reports_splits_no_report(cifar, tmp_path):
  """The steps before it are in the report that comes after it as well."""
  flags = ("--mode=train", "--training_method=set")
  cifar.train(tmp_path / "a", *flags, "--max_steps=5")
  cifar.train(tmp_path / "a", *flags, "--max_steps=10")
  cifar.train(tmp_path / "b", *flags, "--max_steps=10")
  first, whole = (cifar_runs.only_run(tmp_path / n) for n in ("a", "b"))
  assert_same_tensors(first, whole)
  rows = [
    {row["step"]: row for row in metrics(path) if row.pop("steps_per_second")}
    for path in (first, whole)
  ]
  assert list(rows[0]) == ["3", "4", "5", "6", "8", "9", "10"]
  assert rows[0].pop("5")
  assert rows[0] == rows[1]


def test_a_multiplier_of_the_schedules_is_refused_and_named(cifar, tmp_path):
  cifar.train(tmp_path, "--max_steps=2")
  outcome = cifar(
    *cifar_runs.SHORT,
    f"--train_dir={tmp_path}",
    "--max_steps=2",
    "--training_steps_multiplier=2",
  )
  assert outcome.code == 1
  assert "training_steps_multiplier = 1.0 there, 2.0 now" in outcome.err
  assert "`training_steps_multiplier` stretches the schedules" in outcome.err


def test_a_run_without_a_given_directory_is_found(mnist, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  flags = (*mnist_runs.SHORT, *METHOD)
  mnist.done(*flags, "--num_epochs=1")
  mnist.done(*flags, "--num_epochs=1", "--seed=1")
  assert "Resumed at iteration 10." in mnist.done(*flags, "--num_epochs=2")
  assert "is finished." in mnist.done(*flags, "--num_epochs=2")
  assert "is finished." in mnist.done(*flags, "--num_epochs=1")
  directories = sorted((tmp_path / "rigl_runs" / "mnist").iterdir())
  assert len(directories) == 2
  assert [checkpoints.list_numbers(path) for path in directories] in (
    [[10, 20], [10]],
    [[10], [10, 20]],
  )


def test_bindings_that_differ_are_named_alone(mnist, tmp_path):
  same = "--gin_bindings=SparseRigLOptimizer.noise_std = 0.5"
  flags = (*mnist_runs.SHORT, *METHOD, f"--save_path={tmp_path}", same)
  name = "SparseRigLOptimizer.stateless_seed_offset"
  other = "--gin_bindings=" + name + " = {}"
  mnist.done(*flags, "--num_epochs=1", other.format(1))
  outcome = mnist(*flags, "--num_epochs=2", other.format(2))
  assert outcome.code == 1
  assert f"['{name} = 1'] there, ['{name} = 2'] now" in outcome.err
  assert "noise_std" not in outcome.err
