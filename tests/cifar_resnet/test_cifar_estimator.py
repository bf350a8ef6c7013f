# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 by a TPUEstimator: the same as by the loop."""

import signal

import estimator_runs
import pytest
from cifar_runs import SHORT, only_run
from estimator_runs import (
  BY_ESTIMATOR,
  assert_close_tensors,
  assert_same_end,
  assert_stopped,
  signal_evaluation,
  signal_training_at,
)

pytestmark = [
  *estimator_runs.MARKS,
  pytest.mark.usefixtures("without_any_xla"),
]

RIGL = ("--training_method=rigl", "--mode=train_and_eval")


def evaluations(out):
  """What was printed of evaluations, but for the estimate of the time left."""
  lines = [line for line in out.splitlines() if "test loss" in line]
  return [line.split("  [")[0] for line in lines]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  return tmp_path_factory.mktemp("made")


@pytest.fixture
def by_estimator(shell, made):
  """Where a run is that nobody stopped, and what it printed."""
  path = made / "run"
  if not path.exists():
    out = shell.train(path, *RIGL, BY_ESTIMATOR)
    (made / "out").write_text(out)
  return path, (made / "out").read_text()


def test_it_trains_and_evaluates_as_the_loop_does(
  shell, by_estimator, tmp_path
):
  path, ours = by_estimator
  theirs = shell.train(tmp_path, *RIGL)
  assert_close_tensors(only_run(tmp_path), only_run(path))
  assert evaluations(theirs) == evaluations(ours)
  assert len(evaluations(ours)) == 2
  by_both = [
    evaluations(shell.train(path, *RIGL[:1], *arguments))
    for arguments in (("--mode=eval", BY_ESTIMATOR), ("--mode=eval",))
  ]
  assert by_both[0] == by_both[1]
  assert len(by_both[0]) == 3


def test_signals_stop_it_and_the_same_command_goes_on(
  shell, monkeypatch, tmp_path, by_estimator
):
  def stopped_by(number, places):
    outcome = shell(*SHORT, *RIGL, BY_ESTIMATOR, f"--train_dir={tmp_path}")
    run = only_run(tmp_path)
    return assert_stopped(outcome, run, number, "step", places), outcome

  with monkeypatch.context() as patch:  # Between two checkpoints.
    signal_training_at(patch, 7, signal.SIGTERM)
    first, _ = stopped_by(signal.SIGTERM, (5, 6))
  with monkeypatch.context() as patch:
    calls = signal_evaluation(patch, signal.SIGINT)
    second, outcome = stopped_by(signal.SIGINT, (8,))
  assert len(calls) == 1
  assert f"Resumed at {first}." in outcome.out
  out = shell.train(tmp_path, *RIGL, BY_ESTIMATOR)
  assert f"Resumed at {second}." in out
  assert_same_end(only_run(tmp_path), only_run(by_estimator[0]))
