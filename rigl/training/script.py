"""What every training script does with its run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from rigl.config import app
from rigl.data.stream_source import DataError
from rigl.distribution.replicas import Replicas
from rigl.training import evaluation, preemption
from rigl.training.loop import TrainingDivergedError
from rigl.training.run_directory import RunDirectory
from rigl.training.trainer import Run

# How the loss of a worker shows at the others.
_LOST = (
  tf.errors.AbortedError,
  tf.errors.CancelledError,
  tf.errors.DeadlineExceededError,
  tf.errors.InternalError,
  tf.errors.UnavailableError,
)


class Trainable(Protocol):
  """What trains to its end: a `Run` or an `EstimatorRun`."""

  @property
  def directory(self) -> RunDirectory:
    """Where everything is written."""

  @property
  def replicas(self) -> Replicas:
    """The devices that it trains on."""

  @property
  def notice(self) -> preemption.Notice | None:
    """What stops it early; None: SIGTERM ends the process."""

  def prepare(self) -> None:
    """Restores what there is and opens the files."""

  def train_to_end(self) -> dict[str, Any]:
    """Trains to the end and returns the result."""


def train(make_run: Callable[[], Trainable]) -> None:
  """Makes a run and trains it to its end, or says that it is there.

  Args:
    make_run: makes the run of the command line.
  """
  with app.one_line_errors():
    run = make_run()
    where = run.directory.path
    result = run.directory.result()
    is_shown = run.replicas.is_chief
    if result is None:
      if is_shown:
        print(f"Run directory: {where}", flush=True)
      run.prepare()
  if result is None:
    result = _train_to_end(run)
  elif is_shown:
    print(f"The run in {where} is finished.")
  if is_shown and "test_accuracy" in result:
    print(f"Test accuracy: {result['test_accuracy']:.4f}")


def _train_to_end(run: Trainable) -> dict[str, Any]:
  """Trains, and says in a line what ended it."""
  watching: contextlib.AbstractContextManager = contextlib.nullcontext()
  if run.notice is not None:
    watching = preemption.watching(run.notice, run.replicas.is_tpu)
  try:
    with watching:
      return run.train_to_end()
  except preemption.PreemptedError as stop:
    print(f"{stop} The same command goes on.", flush=True)
    sys.exit(preemption.EXIT_CODE)
  except (TrainingDivergedError, DataError) as error:
    app.fail(str(error))
  except _LOST as error:
    if run.replicas.num_hosts == 1:
      raise
    app.fail(
      "another worker was lost; start all of them again, which goes on from "
      f"the last checkpoint ({str(error).splitlines()[0]})"
    )


def evaluate(make_run: Callable[[], Run]) -> None:
  """Evaluates the checkpoints of a run as they are written, to the last.

  Args:
    make_run: makes the run of the command line, which may be training
      meanwhile in another process.
  """
  with app.one_line_errors():
    run = make_run()
    evaluation.evaluate_checkpoints(run)
