# SPDX-License-Identifier: Apache-2.0
"""MNIST by a TPUEstimator: the same as by the loop, in whole and in parts."""

import signal

import estimator_runs
import numpy as np
import pytest
from estimator_runs import (
  BY_ESTIMATOR,
  KilledError,
  assert_close_tensors,
  assert_same_end,
  assert_stopped,
  kill_training_at,
  result,
  signal_evaluation,
  signal_training_at,
  summaries,
)
from mnist_runs import (
  SHORT,
  assert_same_tensors,
  final_tensors,
  metrics,
)

from rigl.training import checkpoints
from rigl.training.reporting import Reporter

pytestmark = [
  *estimator_runs.MARKS,
  pytest.mark.usefixtures("without_any_xla"),
]

RIGL = ("--training_method=rigl", "--num_epochs=4", "--checkpoint_epochs=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  return tmp_path_factory.mktemp("made")


@pytest.fixture
def by_loop(shell, made):
  path = made / "loop"
  if not path.exists():
    shell.train(path, *RIGL)
  return path


@pytest.fixture
def by_estimator(shell, made):
  path = made / "estimator"
  if not path.exists():
    shell.train(path, *RIGL, BY_ESTIMATOR)
  return path


def test_it_trains_as_the_loop_does(by_loop, by_estimator):
  assert_close_tensors(by_loop, by_estimator)
  tensors = final_tensors(by_estimator)
  # Every fourth step is followed by an iteration that updates masks.
  assert (tensors["iteration"], tensors["global_step"]) == (40, 32)
  assert checkpoints.list_numbers(by_estimator) == [20, 40]
  theirs, ours = result(by_loop), result(by_estimator)
  assert theirs.keys() == ours.keys()
  for name in theirs:
    assert ours[name] == pytest.approx(theirs[name], abs=1e-6)


def test_its_evaluations_are_those_of_the_loop(by_loop, by_estimator):
  ours = metrics(by_estimator)
  theirs = [row for row in metrics(by_loop) if int(row["iteration"]) % 20 == 0]
  assert len(ours) == len(theirs) == 2
  names = [name for name in ours[0] if name != "epoch"]
  assert {"test_loss", "test_accuracy", "sparsity", "learning_rate"} <= {*names}
  for name in names:
    for row, other in zip(ours, theirs, strict=True):
      assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-4)


def test_summaries_have_the_names_and_numbers_of_the_loop(
  by_loop, by_estimator
):
  theirs, ours = summaries(by_loop), summaries(by_estimator)
  names = {name for name, _ in ours}
  assert {"loss", "accuracy", "learning_rate", "drop_fraction"} <= names
  assert "cross_entropy" in names and "weight_norm" not in names
  assert {"sparsity", "sparsity/layer1", "regularization_loss"} <= names
  assert {step for _, step in ours} == {10, 20, 30, 40}
  for name in ("sparsity/layer1", "regularization_loss", "drop_fraction"):
    assert ours[name, 40] == pytest.approx(theirs[name, 40], rel=1e-5)


def test_the_loop_goes_on_where_it_stopped(
  shell, monkeypatch, tmp_path, by_loop
):
  with monkeypatch.context() as patch:
    kill_training_at(patch, 33)
    with pytest.raises(KilledError):
      shell.train(tmp_path, *RIGL, BY_ESTIMATOR)
  assert "Resumed at iteration 20." in shell.train(tmp_path, *RIGL)
  assert_close_tensors(tmp_path, by_loop)


def test_it_goes_on_where_the_loop_stopped(
  shell, monkeypatch, tmp_path, by_loop
):
  def kill(reporter, found):
    if found.iteration == 30:
      raise KilledError

  with monkeypatch.context() as patch:
    patch.setattr(Reporter, "report", kill)
    with pytest.raises(KilledError):
      shell.train(tmp_path, *RIGL)
  out = shell.train(tmp_path, *RIGL, BY_ESTIMATOR)
  assert "Resumed at iteration 20." in out
  assert_close_tensors(tmp_path, by_loop)


def test_a_damaged_checkpoint_of_a_killed_run_is_passed_over(
  shell, monkeypatch, tmp_path, by_estimator
):
  with monkeypatch.context() as patch:
    kill_training_at(patch, 33)
    with pytest.raises(KilledError):
      shell.train(tmp_path, *RIGL, BY_ESTIMATOR)
  data = tmp_path / "model.ckpt-20.data-00000-of-00001"
  data.write_bytes(data.read_bytes()[:1000])
  out = shell.train(tmp_path, *RIGL, BY_ESTIMATOR)
  assert "Resumed at iteration 0." in out
  assert_same_tensors(tmp_path, by_estimator)
  assert result(tmp_path) == result(by_estimator)
  assert "is finished" in shell.train(tmp_path, *RIGL, BY_ESTIMATOR)


def assert_stopped_and_goes_on(shell, stopped, path, number, places, whole):
  where = assert_stopped(stopped, path, number, "iteration", places)
  assert f"Resumed at {where}." in shell.train(path, *RIGL, BY_ESTIMATOR)
  assert_same_end(path, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_after_an_iteration(
  shell, monkeypatch, tmp_path, by_estimator, number
):
  with monkeypatch.context() as patch:
    signal_training_at(patch, 32, number)
    stopped = shell(*SHORT, *RIGL, BY_ESTIMATOR, f"--save_path={tmp_path}")
  assert_stopped_and_goes_on(
    shell, stopped, tmp_path, number, (32, 33), by_estimator
  )


def test_a_signal_stops_its_evaluation_which_is_repeated(
  shell, monkeypatch, tmp_path, by_estimator
):
  number = signal.SIGTERM
  with monkeypatch.context() as patch:
    calls = signal_evaluation(patch, number)
    stopped = shell(*SHORT, *RIGL, BY_ESTIMATOR, f"--save_path={tmp_path}")
  assert len(calls) == 1
  assert_stopped_and_goes_on(
    shell, stopped, tmp_path, number, (20,), by_estimator
  )


def test_weights_off_the_masks_of_a_checkpoint_are_zero_in_its_graph(
  shell, monkeypatch, tmp_path
):
  paths = {name: tmp_path / name for name in ("loop", "estimator")}
  for name, path in paths.items():
    if name == "loop":
      shell.train(path, *RIGL[:1], "--num_epochs=1")
    else:
      shell.train(path, *RIGL[:1], "--num_epochs=1", BY_ESTIMATOR)
    tensors = checkpoints.load(f"{path}/model.ckpt-10")
    tensors["layer1/weights"] += 1
    checkpoints.save(path, 10, tensors)
  shell.train(paths["loop"], *RIGL[:1], "--num_epochs=2")
  shell.train(paths["estimator"], *RIGL[:1], "--num_epochs=2", BY_ESTIMATOR)
  assert_close_tensors(*paths.values())


@pytest.mark.parametrize(
  "method", ("baseline", "set", "momentum", "snip", "dnw", "prune", "top_kast")
)
def test_every_method_trains_as_by_the_loop(shell, tmp_path, method):
  options = (f"--training_method={method}", "--num_epochs=1")
  shell.train(tmp_path / "loop", *options)
  shell.train(tmp_path / "estimator", *options, BY_ESTIMATOR)
  assert_close_tensors(tmp_path / "loop", tmp_path / "estimator")


def test_a_directory_of_another_run_is_refused(shell, by_estimator):
  outcome = shell(
    "--use_synthetic_data",
    f"--save_path={by_estimator}",
    "--training_method=set",
    BY_ESTIMATOR,
  )
  assert outcome.code == 1
  assert "holds another run" in outcome.err


@pytest.mark.parametrize(
  "flag", ("--mask_record_frequency=5", "--save_model=false")
)
def test_what_it_cannot_do_is_refused(shell, tmp_path, flag):
  outcome = shell(
    "--use_synthetic_data", f"--save_path={tmp_path}", flag, BY_ESTIMATOR
  )
  assert outcome.code == 1
  assert flag[2:].split("=")[0] in outcome.err


def test_a_directory_that_looks_like_a_pattern_is_refused(shell, tmp_path):
  path = tmp_path / "run[1]"
  outcome = shell("--use_synthetic_data", f"--save_path={path}", BY_ESTIMATOR)
  assert outcome.code == 1
  assert "none of the characters" in outcome.err
  assert outcome.err.count("\n") == 1


def test_a_loss_that_is_no_number_ends_the_run(shell, tmp_path):
  outcome = shell(
    "--use_synthetic_data",
    f"--save_path={tmp_path}",
    "--learning_rate=1e30",
    BY_ESTIMATOR,
  )
  assert outcome.code == 1
  assert outcome.err.splitlines()[-1].startswith("error: `loss` became nan")
  assert np.isfinite(final_tensors(tmp_path)["layer1/kernel"]).all()
