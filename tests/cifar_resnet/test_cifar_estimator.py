# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 by a TPUEstimator: the same as by the loop."""

import estimator_runs
import pytest
from cifar_runs import only_run
from estimator_runs import BY_ESTIMATOR, assert_close_tensors

pytestmark = [
  *estimator_runs.MARKS,
  pytest.mark.usefixtures("without_any_xla"),
]

RIGL = ("--training_method=rigl", "--mode=train_and_eval")


def evaluations(out):
  """What was printed of evaluations, but for the estimate of the time left."""
  lines = [line for line in out.splitlines() if "test loss" in line]
  return [line.split("  [")[0] for line in lines]


def test_it_trains_and_evaluates_as_the_loop_does(shell, tmp_path):
  theirs = shell.train(tmp_path / "loop", *RIGL)
  ours = shell.train(tmp_path / "estimator", *RIGL, BY_ESTIMATOR)
  paths = [only_run(tmp_path / name) for name in ("loop", "estimator")]
  assert_close_tensors(*paths)
  assert evaluations(theirs) == evaluations(ours)
  assert len(evaluations(ours)) == 2
  by_both = [
    evaluations(shell.train(tmp_path / "estimator", *RIGL[:1], *arguments))
    for arguments in (("--mode=eval", BY_ESTIMATOR), ("--mode=eval",))
  ]
  assert by_both[0] == by_both[1]
  assert len(by_both[0]) == 3
