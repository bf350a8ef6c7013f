# SPDX-License-Identifier: Apache-2.0
"""Runs whose numbers are not finite any more."""

import math

import cifar_runs
import mnist_runs
import numpy as np
import pytest
import tensorflow as tf
from script_runs import final_tensors, metrics

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_task import CifarTask
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_model import MnistTask
from rigl.mnist.mnist_settings import MnistSettings
from rigl.training import checkpoints

SKIP = "--on_nonfinite=skip"
SHORT = (*mnist_runs.SHORT, "--num_epochs=2", "--checkpoint_epochs=1")


@pytest.fixture
def mnist(without_any_xla, monkeypatch, capsys):
  del without_any_xla
  return mnist_runs.Shell(mnist_train_eval, MnistSettings, monkeypatch, capsys)


@pytest.fixture
def cifar(without_any_xla, monkeypatch, capsys):
  del without_any_xla
  return cifar_runs.Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys)


@pytest.fixture(params=[MnistTask])
def bad_iterations(request, monkeypatch):
  """Makes the loss not finite in some training iterations."""
  found, original = [], request.param.metrics

  def spoiled(task, batch, iteration=None):
    values = original(task, batch, iteration)
    if iteration is not None and found:
      is_bad = tf.reduce_any(tf.equal(iteration, tf.constant(found, tf.int64)))
      factor = tf.where(is_bad, math.nan, 1.0)
      values["loss"] = values["loss"] * factor
    return values

  monkeypatch.setattr(request.param, "metrics", spoiled)
  return found


def state_of(trainer):
  return {n: v.numpy() for n, v in trainer.state.all_variables.items()}


@pytest.mark.parametrize(
  "flags",
  [
    ("--l2=1e12", "--max_steps=4"),
    ("--l2=1e12", "--max_steps=5", "--checkpoint_steps=2"),
    ("--l2=1e30", "--max_steps=2", "--checkpoint_steps=1"),
  ],
)
def test_weights_that_are_not_finite_are_never_saved(cifar, tmp_path, flags):
  command = (*cifar_runs.SHORT, "--mode=train", *flags)
  for _ in range(2):
    outcome = cifar(*command, f"--train_dir={tmp_path}")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert "lower the learning rate" in outcome.err
    assert not list(tmp_path.rglob("result.json"))
    for index in tmp_path.rglob("model.ckpt-*.index"):
      tensors = checkpoints.load(str(index.with_suffix("")))
      assert all(np.isfinite(value).all() for value in tensors.values())


def test_a_run_resumes_from_its_newest_finite_checkpoint(mnist, tmp_path):
  mnist.done(*SHORT, f"--save_path={tmp_path}", "--training_method=set")
  expected = final_tensors(tmp_path)
  (tmp_path / "result.json").unlink()
  for value in (math.nan, math.inf):
    broken = dict(expected)
    kernel = expected["layer1/weights"].copy()
    kernel[0, 0] = value
    broken["layer1/weights"] = kernel
    checkpoints.save(tmp_path, 20, broken)
    outcome = mnist(*SHORT, f"--save_path={tmp_path}", "--training_method=set")
    assert outcome.code == 0, outcome.err
    assert "Resumed at iteration 10." in outcome.out
    for name, tensor in final_tensors(tmp_path).items():
      np.testing.assert_array_equal(tensor, expected[name], name)
    (tmp_path / "result.json").unlink()


def test_without_a_finite_checkpoint_the_run_is_refused(mnist, tmp_path):
  mnist.done(*SHORT, f"--save_path={tmp_path}")
  (tmp_path / "result.json").unlink()
  broken = final_tensors(tmp_path)
  broken["layer1/kernel"] = np.full_like(broken["layer1/kernel"], np.nan)
  for number in (10, 20):
    checkpoints.save(tmp_path, number, broken)
  outcome = mnist(*SHORT, f"--save_path={tmp_path}")
  assert outcome.code == 1
  assert "all checkpoints are damaged or not finite" in outcome.err


UPDATES_AFTER = ("set", "momentum", "prune", "dnw", "top_kast")
METHODS = (*UPDATES_AFTER, "rigl", "snip", "baseline")


@pytest.mark.parametrize("method", METHODS)
def test_a_skipped_step_changes_nothing_but_the_counts(
  mnist, bad_iterations, tmp_path, method
):
  bad_iterations += [0, 1, 5, 6, 7]
  trainer = mnist.run_of(
    *SHORT, SKIP, f"--training_method={method}", f"--save_path={tmp_path}"
  )
  trainer.prepare()
  state, executor = trainer.state, trainer.executor
  skipped = 0
  while state.iteration < 12:
    before, iteration = state_of(trainer), state.iteration
    progress = executor.advance(iteration, 1)
    state.iteration += progress.iterations
    after = state_of(trainer)
    counted = progress.sums.get("skipped_steps", 0)
    # A mask update that takes the place of a step is repeated.
    is_bad = iteration in bad_iterations
    assert counted == (is_bad and progress.steps)
    skipped += is_bad
    before["global_step"] = before["global_step"] + progress.steps
    changed = [n for n in after if not np.array_equal(before[n], after[n])]
    updates_after = method in UPDATES_AFTER
    if is_bad and not updates_after:
      assert changed == []
    elif is_bad:
      assert [n for n in changed if n.endswith("biases")] == []
    else:
      assert changed
    assert all(np.isfinite(value).all() for value in after.values())
    for layer in state.optimizer.layers:
      kernel, mask = layer.kernel.numpy(), layer.mask.numpy()
      assert not kernel[~mask.astype(bool)].any()
  assert skipped == 5


@pytest.mark.parametrize("bad_iterations", [CifarTask], indirect=True)
def test_a_skipped_step_moves_no_average(cifar, bad_iterations, tmp_path):
  bad_iterations += [2]
  trainer = cifar.run_of(*cifar_runs.SHORT, SKIP, f"--train_dir={tmp_path}")
  trainer.prepare()
  trainer.executor.advance(0, 2)
  before = state_of(trainer)
  progress = trainer.executor.advance(2, 1)
  assert progress.sums["skipped_steps"] == 1
  after = state_of(trainer)
  changed = [n for n in after if not np.array_equal(before[n], after[n])]
  assert changed == ["global_step"]
  assert any("moving_mean" in name for name in after)


@pytest.mark.parametrize("method", ["rigl", "momentum"])
def test_replicas_skip_as_one_device_does(
  mnist, bad_iterations, tmp_path, method
):
  bad_iterations += [4, 8, 13]
  flags = (*SHORT, SKIP, f"--training_method={method}")
  for strategy in ("default", "mirrored"):
    place = tmp_path / strategy
    mnist.done(*flags, f"--strategy={strategy}", f"--save_path={place}")
  one, several = (final_tensors(tmp_path / n) for n in ("default", "mirrored"))
  for name, value in one.items():
    np.testing.assert_allclose(several[name], value, 1e-5, 1e-5, err_msg=name)


def test_skipped_steps_are_counted_and_a_resumed_run_has_the_same_bits(
  mnist, bad_iterations, tmp_path
):
  bad_iterations += [4, 8, 13]
  flags = (*SHORT, SKIP, "--training_method=rigl")
  outcome = mnist(*flags, f"--save_path={tmp_path / 'a'}")
  assert outcome.code == 0, outcome.err
  first = [float(row["skipped_steps"]) for row in metrics(tmp_path / "a")]
  assert sum(first) in (2, 3)  # One may be a mask update.
  for row in metrics(tmp_path / "a"):
    assert math.isfinite(float(row["loss"]))
  mnist.done(*flags, "--num_epochs=2", f"--save_path={tmp_path / 'b'}")
  for file in (tmp_path / "b").glob("model.ckpt-20.*"):
    file.unlink()
  (tmp_path / "b" / "result.json").unlink()
  out = mnist.done(*flags, f"--save_path={tmp_path / 'b'}")
  assert "Resumed at iteration 10." in out
  mnist_runs.assert_same_run(tmp_path / "a", tmp_path / "b")


def test_without_bad_numbers_skip_changes_no_bit(mnist, tmp_path):
  for name, flag in (("a", SKIP), ("b", "--on_nonfinite=stop")):
    mnist.done(
      *SHORT, flag, "--training_method=rigl", f"--save_path={tmp_path / name}"
    )
  mnist_runs.assert_same_tensors(tmp_path / "a", tmp_path / "b")


def test_a_run_that_makes_no_good_step_any_more_ends(
  mnist, bad_iterations, tmp_path
):
  bad_iterations += range(20, 200)
  outcome = mnist(*SHORT, SKIP, "--num_epochs=20", f"--save_path={tmp_path}")
  assert outcome.code == 1
  assert "had finite numbers; lower the learning rate" in outcome.err


def test_stop_names_the_iterations_and_keeps_the_checkpoint(
  mnist, bad_iterations, tmp_path
):
  bad_iterations += [14]
  outcome = mnist(*SHORT, f"--save_path={tmp_path}")
  assert outcome.code == 1
  assert "`loss` became nan between iterations 10 and 20" in outcome.err
  assert checkpoints.list_numbers(tmp_path) == [10]
