"""CIFAR-10 by a TPUEstimator: the same as by the loop."""

import estimator_runs
import pytest
from cifar_runs import only_run, shell, without_xla
from estimator_runs import BY_ESTIMATOR, assert_close_tensors, without_any_xla

__all__ = ["shell", "without_any_xla", "without_xla"]  # Fixtures.

pytestmark = [
  *estimator_runs.MARKS,
  pytest.mark.usefixtures("without_any_xla"),
]

RIGL = ("--training_method=rigl", "--mode=train_and_eval")


def test_it_trains_and_evaluates_as_the_loop_does(shell, tmp_path):
  theirs = shell.train(tmp_path / "loop", *RIGL)
  ours = shell.train(tmp_path / "estimator", *RIGL, BY_ESTIMATOR)
  paths = [only_run(tmp_path / name) for name in ("loop", "estimator")]
  assert_close_tensors(*paths)
  lines = [
    [line for line in out.splitlines() if "test loss" in line]
    for out in (theirs, ours)
  ]
  assert lines[0] == lines[1]
  assert len(lines[0]) == 2
  arguments = [a for a in RIGL if "mode" not in a] + ["--mode=eval"]
  evaluated = shell.train(tmp_path / "estimator", *arguments, BY_ESTIMATOR)
  assert [line for line in evaluated.splitlines() if "test loss" in line][
    1:
  ] == lines[0]
