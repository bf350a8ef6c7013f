# SPDX-License-Identifier: Apache-2.0
"""Hooks of a TPUEstimator's training where it is not on a TPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class EndAtIteration(tf.compat.v1.train.SessionRunHook):
  """Ends a training at an iteration and writes its checkpoint.

  TensorFlow's own hooks count steps, and an iteration need not make one.

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

  def before_run(self, run_context: Any) -> Any:
    """Asks for the number of iterations."""
    del run_context
    return tf.compat.v1.train.SessionRunArgs(self._iteration)

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """Ends the training if it is the last."""
    if run_values.results >= self._end:
      run_context.request_stop()

  def end(self, session: Any) -> None:
    """Writes the checkpoint."""
    self._saver.save(
      session,
      f"{self._path}/{checkpoints.PREFIX}",
      self._end,
      write_meta_graph=False,
    )
