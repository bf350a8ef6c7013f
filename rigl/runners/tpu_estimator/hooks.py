"""Hooks of a TPUEstimator's training where it is not on a TPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from rigl.runners.tpu_estimator.graph import DUE, STEP
from rigl.runners.tpu_estimator.saver import EstimatorSaver
from rigl.training import checkpoints
from rigl.training.loop import ITERATION
from rigl.types import Tensor


class Reporter(tf.compat.v1.train.SessionRunHook):
  """Prints what the loop prints of the training, of single iterations.

  Args:
    found: what is found of an iteration, scalars by name.
  """

  def __init__(self, found: Mapping[str, Tensor]) -> None:
    names = (ITERATION, STEP, DUE, "loss", "accuracy")
    self._found = {name: found[name] for name in names}

  def before_run(self, run_context: Any) -> Any:
    """See the base class."""
    del run_context
    return tf.compat.v1.train.SessionRunArgs(self._found)

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """See the base class."""
    del run_context
    found = run_values.results
    if found[DUE]:
      print(
        f"step {found[STEP]}: train loss {found['loss']:.4f}, train accuracy "
        f"{found['accuracy']:.4f}",
        flush=True,
      )


class EndAtIteration(tf.compat.v1.train.SessionRunHook):
  """Ends a training at an iteration and writes its checkpoint.

  TensorFlow's own hooks know steps, of which an iteration need not make one.

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
    """See the base class."""
    del run_context
    return tf.compat.v1.train.SessionRunArgs(self._iteration)

  def after_run(self, run_context: Any, run_values: Any) -> None:
    """See the base class."""
    if run_values.results >= self._end:
      run_context.request_stop()

  def end(self, session: Any) -> None:
    """See the base class."""
    self._saver.save(
      session,
      f"{self._path}/{checkpoints.PREFIX}",
      self._end,
      write_meta_graph=False,
    )
