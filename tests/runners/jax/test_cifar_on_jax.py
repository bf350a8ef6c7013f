# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 by the JAX runner: the run of the other runners."""

import numpy as np
import pytest
from cifar_runs import Shell, only_run
from jax_runs import JAX, assert_close_runs
from script_runs import assert_same_results, final_tensors

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.runners.jax.executor import JaxExecutor
from rigl.runners.tensorflow_executor import TensorFlowExecutor

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

FLAGS = (
  "--mode=train_and_eval",
  "--training_method=rigl",
  "--gin_bindings=SparseRigLOptimizer.noise_std = 0.0",
  # At the usual rate a difference of 1e-7 soon is one of 1e-4.
  "--gin_bindings=cifar_learning_rate.base = 0.001",
)
LONG = (
  "--max_steps=200",
  "--maskupdate_frequency=40",
  "--batch_size=16",
  "--checkpoint_steps=100",
  "--summaries_steps=50",
)


@pytest.fixture
def shell(monkeypatch, capsys):
  return Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys)


def noted_masks(monkeypatch, kind):
  """{iteration: masks} after every update of an executor, when it has run."""
  advance, found = kind.advance, {}

  def noting(executor, iteration, limit):
    progress = advance(executor, iteration, limit)
    if progress.mask_changed:
      executor.synchronize()
      layers = executor.state.optimizer.layers
      found[iteration + progress.iterations] = [
        la.mask.numpy() for la in layers
      ]
    return progress

  monkeypatch.setattr(kind, "advance", noting)
  return found


def test_200_steps_are_those_of_the_loop(shell, tmp_path, monkeypatch):
  ours = noted_masks(monkeypatch, JaxExecutor)
  usual = noted_masks(monkeypatch, TensorFlowExecutor)
  shell.train(tmp_path / "ours", *FLAGS, *LONG, *JAX)
  shell.train(tmp_path / "usual", *FLAGS, *LONG, "--jit_compile=true")
  assert ours.keys() == usual.keys() and len(usual) == 5
  for iteration, masks in usual.items():
    for found, wanted in zip(ours[iteration], masks, strict=True):
      np.testing.assert_array_equal(found, wanted)
  paths = [only_run(tmp_path / name) for name in ("ours", "usual")]
  assert_close_runs(*paths, atol=2e-4, slot_atol=0.01)


def test_run_that_was_killed_ends_with_the_same_bits(
  shell, tmp_path, monkeypatch
):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  shell.train(whole, *JAX, *FLAGS)
  advance = JaxExecutor.advance
  with monkeypatch.context() as patch:

    def until(executor, iteration, limit):
      if iteration >= 7:
        raise KeyboardInterrupt
      return advance(executor, iteration, limit)

    patch.setattr(JaxExecutor, "advance", until)
    with pytest.raises(KeyboardInterrupt):
      shell.train(killed, *JAX, *FLAGS)
  assert final_tensors(only_run(killed))["global_step"] == 4
  out = shell.train(killed, *JAX, *FLAGS)
  assert "Resumed at step 4." in out
  assert_same_results(only_run(killed), only_run(whole))


def test_checkpoints_are_evaluated_by_either_runner(shell, tmp_path):
  shell.train(tmp_path, *JAX, *FLAGS)
  evaluating = (*FLAGS, "--mode=eval")
  ours = shell.train(tmp_path, *JAX, *evaluating)
  usual = shell.train(tmp_path, *evaluating)
  lines = [line for line in ours.splitlines() if line.startswith("step ")]
  assert [line.split(":")[0] for line in lines] == ["step 4", "step 8"]
  for line in lines:
    assert line in usual
