# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 by the JAX runner: the run of the other runners.

Two compilers round differently. Now and then this turns a ReLU on or off, and
a gradient then jumps by a hundredth, after batch normalisation of a small batch
by more. Masks soon differ, as they do between TensorFlow with and without XLA.
A smooth function in place of the ReLU shows that nothing else differs but
connections whose scores are equal up to rounding: less than one in 10,000.
"""

import numpy as np
import pytest
import tensorflow as tf
from cifar_runs import Shell, only_run
from jax_runs import JAX
from script_runs import final_tensors

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.runners.jax.executor import JaxExecutor
from rigl.runners.tensorflow_executor import TensorFlowExecutor

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

FLAGS = (
  "--training_method=rigl",
  "--batch_size=16",
  "--summaries_steps=20",
  "--gin_bindings=SparseRigLOptimizer.noise_std = 0.0",
)
LONG = (
  "--max_steps=200",
  "--maskupdate_frequency=40",
  "--checkpoint_steps=100",
  "--gin_bindings=cifar_learning_rate.base = 0.01",
)
SHORT = ("--max_steps=20", "--maskupdate_frequency=5", "--checkpoint_steps=10")


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


@pytest.mark.parametrize(
  ("length", "updates"),
  [(SHORT, 4), pytest.param(LONG, 5, marks=pytest.mark.long)],
)
def test_smooth_run_is_that_of_the_loop(
  shell, tmp_path, monkeypatch, length, updates
):
  monkeypatch.setattr(tf.nn, "relu", tf.nn.softplus)
  ours = noted_masks(monkeypatch, JaxExecutor)
  usual = noted_masks(monkeypatch, TensorFlowExecutor)
  flags = (*FLAGS, *length)
  shell.train(tmp_path / "ours", *flags, *JAX)
  shell.train(tmp_path / "usual", *flags)
  assert ours.keys() == usual.keys() and len(usual) == updates
  for iteration, masks in usual.items():
    pairs = [*zip(ours[iteration], masks, strict=True)]
    differing = sum(np.count_nonzero(a != b) for a, b in pairs)
    assert differing <= 1e-4 * sum(mask.size for mask in masks), iteration
  found, wanted = (
    final_tensors(only_run(tmp_path / name)) for name in ("ours", "usual")
  )
  assert found.keys() == wanted.keys()
  weights = [n for n in wanted if n.endswith(("weights", "biases", "beta"))]
  distances = np.concatenate(
    [np.abs(found[n] - wanted[n]).ravel() for n in weights]
  )
  assert np.mean(distances > 1e-4) <= 1e-3


@pytest.mark.long
def test_checkpoints_are_evaluated_by_either_runner(shell, tmp_path):
  flags = (*FLAGS, *SHORT, "--mode=train_and_eval")
  trained = shell.train(tmp_path, *flags, *JAX)
  assert "test accuracy" in trained
  found = [
    shell.train(tmp_path, *flags, *runner, "--mode=eval")
    for runner in (JAX, ())
  ]
  lines = [
    [line for line in text.splitlines() if line.startswith("step ")]
    for text in found
  ]
  assert len(lines[0]) == 2 and lines[0] == lines[1]
