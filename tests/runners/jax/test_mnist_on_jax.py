# SPDX-License-Identifier: Apache-2.0
"""MNIST by the JAX runner: the run of the other runners."""

import pytest
from jax_runs import JAX, assert_close_runs
from mnist_runs import SHORT, Shell, assert_same_run, records

from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings
from rigl.runners.jax.executor import JaxExecutor

pytest.importorskip("jax")

FLAGS = (
  "--num_epochs=4",
  "--checkpoint_epochs=1",
  "--maskupdate_frequency=7",
  "--mask_record_frequency=5",
)
NO_NOISE = tuple(
  f"--gin_bindings={name}.noise_std = 0.0"
  for name in (
    "SparseRigLOptimizer",
    "SparseSETOptimizer",
    "SparseMomentumOptimizer",
    "SparseStaticOptimizer",
    "SparseGraNetOptimizer",
  )
)
METHODS = [
  "rigl",
  *(pytest.param(name, marks=pytest.mark.slow) for name in ("snip", "dnw")),
  *(
    pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long])
    for name in (
      *("set", "momentum", "static", "prune", "baseline", "granet"),
      "top_kast",
    )
  ),
]


class Killed(BaseException):
  """Ends a run as no code of ours handles it."""


@pytest.fixture
def shell(monkeypatch, capsys):
  return Shell(mnist_train_eval, MnistSettings, monkeypatch, capsys)


@pytest.mark.parametrize("method", METHODS)
def test_run_is_that_of_the_loop(shell, tmp_path, method):
  ours, usual = tmp_path / "ours", tmp_path / "usual"
  flags = (*FLAGS, *NO_NOISE, f"--training_method={method}")
  out = shell.train(ours, *JAX, *flags)
  assert f"Run directory: {ours}" in out and "Test accuracy: " in out
  shell.train(usual, *flags)
  assert_close_runs(ours, usual)
  if method == "baseline":
    return
  found, wanted = records(ours), records(usual)
  assert found.keys() == wanted.keys() and len(wanted) == 9
  for iteration, masks in wanted.items():
    for layer, mask in masks.items():
      assert (found[iteration][layer] == mask).all(), (iteration, layer)


@pytest.fixture
def whole(shell, tmp_path):
  """A run of RigL that nothing disturbed."""
  path = tmp_path / "whole"
  shell.train(path, *JAX, *FLAGS, "--training_method=rigl")
  return path


def test_killed_run_ends_with_the_same_bits(
  shell, whole, tmp_path, monkeypatch
):
  path = tmp_path / "killed"
  advance = JaxExecutor.advance
  for last in (13, 22):

    def until(executor, iteration, limit, last=last):
      progress = advance(executor, iteration, limit)
      if iteration + progress.iterations >= last:
        raise Killed
      return progress

    with monkeypatch.context() as patch:
      patch.setattr(JaxExecutor, "advance", until)
      with pytest.raises(Killed):
        shell.train(path, *JAX, *FLAGS, "--training_method=rigl")
  shell.train(path, *JAX, *FLAGS, "--training_method=rigl")
  assert_same_run(path, whole)


@pytest.mark.slow
def test_stopped_run_ends_with_the_same_bits(
  shell, whole, tmp_path, monkeypatch
):
  path = tmp_path / "stopped"
  advance = JaxExecutor.advance
  with monkeypatch.context() as patch:

    def advance_and_stop(executor, iteration, limit):
      progress = advance(executor, iteration, limit)
      if iteration + progress.iterations >= 17:
        executor.is_stopped.__self__.notice.give("SIGTERM")
      return progress

    patch.setattr(JaxExecutor, "advance", advance_and_stop)
    found = shell(
      *SHORT, *JAX, *FLAGS, "--training_method=rigl", f"--save_path={path}"
    )
    assert found.code == 143 and "Stopped at" in found.out
  out = shell.train(path, *JAX, *FLAGS, "--training_method=rigl")
  assert "Resumed at" in out
  assert_same_run(path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["loop", "jax"])
def test_one_runner_resumes_where_the_other_stopped(shell, tmp_path, first):
  path, usual = tmp_path / "changed", tmp_path / "usual"
  flags = (*FLAGS, *NO_NOISE, "--training_method=rigl")
  runners = [(), JAX] if first == "loop" else [JAX, ()]
  shell.train(path, *flags, *runners[0], "--num_epochs=2")
  out = shell.train(path, *flags, *runners[1])
  assert "Resumed at iteration 20." in out
  shell.train(usual, *flags)
  assert_close_runs(path, usual)
