# SPDX-License-Identifier: Apache-2.0
"""What tests of `--runner=tpu_estimator` share; they need TensorFlow 2.15."""

from __future__ import annotations

import json
import os
import pathlib
import signal
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from script_runs import Outcome, assert_same_tensors, final_tensors, metrics

from rigl.training import checkpoints

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


def result(path: pathlib.Path) -> dict[str, Any]:
  """The result of a finished run."""
  return json.loads((path / "result.json").read_text())


def assert_stopped(
  stopped: Outcome,
  run: pathlib.Path,
  number: int,
  unit: str,
  places: Collection[int],
) -> str:
  """A signal stopped a run, which is saved; returns where, such as `step 5`.

  Args:
    stopped: what its command did.
    run: its directory.
    number: the signal.
    unit: what its checkpoints count.
    places: where it may have stopped.
  """
  assert stopped.code == 128 + number
  place = checkpoints.list_numbers(run)[-1]
  assert place in places
  name = signal.Signals(number).name
  assert f"Stopped at {unit} {place} by {name}." in stopped.out
  assert "Traceback" not in stopped.err
  assert not (run / "result.json").exists()
  return f"{unit} {place}"


def assert_same_end(resumed: pathlib.Path, whole: pathlib.Path) -> None:
  """A resumed run ended as one that nobody stopped."""
  assert_same_tensors(resumed, whole)
  assert result(resumed) == result(whole)
  assert metrics(resumed) == metrics(whole)


def signal_evaluation(monkeypatch: pytest.MonkeyPatch, number: int) -> list:
  """Sends this process a signal at each evaluation; returns these."""
  from rigl.runners.tpu_estimator.specs import EstimatorEvaluation

  batches, calls = EstimatorEvaluation.batches, []

  def batches_and_signal(evaluation, params):
    calls.append(params)
    os.kill(os.getpid(), number)
    return batches(evaluation, params)

  monkeypatch.setattr(EstimatorEvaluation, "batches", batches_and_signal)
  return calls


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
