# SPDX-License-Identifier: Apache-2.0
"""MNIST by the JAX runner: the run of the other runners."""

import pytest
from jax_runs import JAX, assert_close_runs
from mnist_runs import Shell, assert_same_run, records

from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings
from rigl.runners.jax.executor import JaxExecutor

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

FLAGS = (
  "--num_epochs=4",
  "--checkpoint_epochs=1",
  "--maskupdate_frequency=7",
  "--mask_record_frequency=5",
)
NO_NOISE = ("--gin_bindings=SparseRigLOptimizer.noise_std = 0.0",)


class Killed(BaseException):
  """Ends a run as no code of ours handles it."""


@pytest.fixture
def shell(monkeypatch, capsys):
  return Shell(mnist_train_eval, MnistSettings, monkeypatch, capsys)


def test_run_is_that_of_the_loop(shell, tmp_path):
  ours, usual = tmp_path / "ours", tmp_path / "usual"
  flags = (*FLAGS, *NO_NOISE, "--training_method=rigl")
  out = shell.train(ours, *JAX, *flags)
  assert f"Run directory: {ours}" in out and "Test accuracy: " in out
  shell.train(usual, *flags)
  assert_close_runs(ours, usual)
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
