"""What every training script does with its run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from rigl.training import command_line, evaluation
from rigl.training.loop import TrainingDivergedError
from rigl.training.run import Run
from rigl.training.run_directory import RunDirectory
from rigl.training.stream_sources import DataError


class Trainable(Protocol):
  """What trains to its end: a `Run` or an `EstimatorRun`."""

  @property
  def directory(self) -> RunDirectory:
    """Where everything is written."""

  def prepare(self) -> None:
    """Restores what there is and opens the files."""

  def train_to_end(self) -> dict[str, Any]:
    """Trains to the end and returns the result."""


def train(make_run: Callable[[], Trainable]) -> None:
  """Makes a run and trains it to its end, or says that it is there.

  Args:
    make_run: makes the run of the command line.
  """
  with command_line.one_line_errors():
    run = make_run()
    where = run.directory.path
    result = run.directory.result()
    if result is None:
      print(f"Run directory: {where}", flush=True)
      run.prepare()
  if result is None:
    try:
      result = run.train_to_end()
    except (TrainingDivergedError, DataError) as error:
      command_line.fail(str(error))
  else:
    print(f"The run in {where} is finished.")
  if "test_accuracy" in result:
    print(f"Test accuracy: {result['test_accuracy']:.4f}")


def evaluate(make_run: Callable[[], Run]) -> None:
  """Evaluates the checkpoints of a run as they are written, to the last.

  Args:
    make_run: makes the run of the command line, which may be training
      meanwhile in another process.
  """
  with command_line.one_line_errors():
    run = make_run()
    evaluation.evaluate_checkpoints(run)
