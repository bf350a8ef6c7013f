# SPDX-License-Identifier: Apache-2.0
"""Hooks of a TPUEstimator: reports, the end at an iteration, stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from rigl.runners.tpu_estimator.graph import DUE, STEP
from rigl.runners.tpu_estimator.saver import EstimatorSaver
from rigl.training import checkpoints
from rigl.training.reporting import metrics_text
from rigl.training.train_state import ITERATION
from rigl.types import Tensor


class ReportHook(tf.compat.v1.train.SessionRunHook):
  """Prints the metrics of single iterations.

  Args:
    found: scalars of an iteration by name.
    shown: names of the metrics that are printed, beside `loss`.
  """

  def __init__(self, found: Mapping[str, Tensor], shown: Sequence[str]) -> None:
    self._shown = shown
    names = (ITERATION, STEP, DUE, "loss", *shown)
    self._found = {name: found[name] for name in names}

  def before_run(self, run_context: Any) -> Any:
    """Asks for the scalars."""
    del run_context
    return tf.compat.v1.train.SessionRunArgs(self._found)

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """Prints them where a report is due."""
    del run_context
    found = run_values.results
    if found[DUE]:
      line = metrics_text(f"step {found[STEP]}", "train", found, self._shown)
      print(line, flush=True)


class StopHook(tf.compat.v1.train.SessionRunHook):
  """Ends a training or an evaluation early if the run shall stop.

  It is asked after every call of the session: an iteration, a batch of an
  evaluation, or an inner loop on a TPU.

  Attributes:
    has_run: whether the session was called.
    is_early: whether the hook ended it.

  Args:
    is_stopped: whether the run shall stop.
  """

  def __init__(self, is_stopped: Callable[[], bool]) -> None:
    self._is_stopped = is_stopped
    self.has_run = self.is_early = False

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """Ends it if the run shall stop."""
    del run_values
    self.has_run = True
    if self._is_stopped():
      self.is_early = True
      run_context.request_stop()


class EndAtIteration(tf.compat.v1.train.SessionRunHook):
  """Ends a training at an iteration and writes a checkpoint where it ended.

  TensorFlow's own hooks count steps, and an iteration need not make one. A
  training that another hook ends earlier is saved where it is.

  Args:
    end: the number of iterations.
    iteration: the number after an iteration, int64 scalar.
    saver: writes the checkpoint.
    path: the directory that it is written to.
  """

  def __init__(
    self, end: int, iteration: Tensor, saver: EstimatorSaver, path: str
  ) -> None:
    self._end, self._iteration = end, iteration
    self._saver, self._path = saver, path
    self._reached = end

  def before_run(self, run_context: Any) -> Any:
    """Asks for the number of iterations."""
    del run_context
    return tf.compat.v1.train.SessionRunArgs(self._iteration)

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """Ends the training if it is the last."""
    self._reached = int(run_values.results)
    if self._reached >= self._end:
      run_context.request_stop()

  def end(self, session: Any) -> None:
    """Writes the checkpoint."""
    self._saver.save(
      session,
      f"{self._path}/{checkpoints.PREFIX}",
      self._reached,
      write_meta_graph=False,
    )
