# SPDX-License-Identifier: Apache-2.0
"""What tests of `--runner=tpu_estimator` share; they need TensorFlow 2.15."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from script_runs import final_tensors

HAS_ESTIMATOR = tf.__version__.startswith("2.15.")
# Each builds several graphs, half a minute together.
MARKS = [
  pytest.mark.skipif(not HAS_ESTIMATOR, reason="needs TensorFlow 2.15"),
  pytest.mark.slow,
]
BY_ESTIMATOR = "--runner=tpu_estimator"


class KilledError(Exception):
  """What stands for the end of a process."""


def kill_training_at(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
  """Makes a training end after an iteration, without a checkpoint."""

  def kill() -> None:
    raise KilledError

  _call_at(monkeypatch, iteration, kill)


def signal_training_at(
  monkeypatch: pytest.MonkeyPatch, iteration: int, number: int
) -> None:
  """Sends this process a signal after an iteration of a training."""
  _call_at(monkeypatch, iteration, lambda: os.kill(os.getpid(), number))


def _call_at(
  monkeypatch: pytest.MonkeyPatch, iteration: int, function: Callable[[], None]
) -> None:
  """Calls a function after an iteration of a training."""
  from rigl.runners.tpu_estimator.hooks import ReportHook

  after_run = ReportHook.after_run

  def after_run_and_call(hook, run_context, run_values):
    after_run(hook, run_context, run_values)
    if run_values.results["iteration"] == iteration:
      function()

  monkeypatch.setattr(ReportHook, "after_run", after_run_and_call)


def summaries(path: pathlib.Path) -> dict[tuple[str, int], float]:
  """{(tag, iteration): number} of the training of a run."""
  found = {}
  for file in (path / "train").glob("events.out.*"):
    for event in tf.compat.v1.train.summary_iterator(str(file)):
      for value in event.summary.value:
        number = float(tf.make_ndarray(value.tensor))
        found[value.tag, event.step] = number
  return found


def assert_close_tensors(first: pathlib.Path, second: pathlib.Path) -> None:
  """The newest checkpoints agree: masks and counters exactly."""
  a, b = final_tensors(first), final_tensors(second)
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype, name
    exact = a[name].dtype != np.float32 or name.endswith("/mask")
    tolerance = 0.0 if exact else 1e-5
    np.testing.assert_allclose(
      a[name], b[name], tolerance, tolerance, err_msg=name
    )
