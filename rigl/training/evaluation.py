# SPDX-License-Identifier: Apache-2.0
"""Evaluation of the checkpoints of a run while another process writes them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rigl import files
from rigl.training import checkpoints, warm_start
from rigl.training.loop import STEPS
from rigl.training.metrics import MetricsWriter
from rigl.training.reporting import metrics_text
from rigl.training.trainer import Trainer
from rigl.types import Metrics

_WAIT_SECONDS = 5.0


class CheckpointMetrics(NamedTuple):
  """Evaluation of a checkpoint.

  Attributes:
    iteration: its iterations.
    step: its gradient steps.
    test: means of the metrics over the test examples.
  """

  iteration: int
  step: int
  test: Metrics


def evaluate_checkpoints(trainer: Trainer, wait: float = _WAIT_SECONDS) -> None:
  """Evaluates the checkpoints of a run as they are written, to the last.

  Results are printed and written to `evaluations/metrics.csv` and TensorBoard
  files in the directory of the run.

  Args:
    trainer: the run, which may be training in another process; the variables
      are overwritten.
    wait: seconds between looks for new checkpoints.

  Raises:
    ValueError: if a checkpoint does not fit.
  """
  state = trainer.state

  def evaluate(prefix: str) -> CheckpointMetrics:
    state.load(prefix)
    test = trainer.test_metrics()
    return CheckpointMetrics(state.iteration, state.step, test)

  evaluate_as_written(
    trainer.directory.path,
    trainer.intervals.total,
    evaluate,
    state.task.headline_metrics[:1],
    wait,
    trainer.intervals.unit,
  )


def evaluate_file(trainer: Trainer, place: str) -> Metrics:
  """Evaluates the network of a compact file once, and prints the result.

  Nothing is written.

  Args:
    trainer: a run of the same network; its variables are overwritten.
    place: the compact file.

  Returns:
    The metrics of the test examples.

  Raises:
    ValueError: if the file is damaged or does not fit the network.
  """
  state = trainer.state
  tensors = checkpoints.load(place)
  kernels = {layer.name: layer.kernel for layer in state.optimizer.layers}
  wanted = {
    name: variable
    for name, variable in state.variables.items()
    if warm_start.is_parameter(name)
  }
  weights = warm_start.model_weights(f"`{place}`", tensors, wanted, kernels)
  checkpoints.restore(weights, wanted)
  test = trainer.test_metrics()
  shown = state.task.headline_metrics[:1]
  print(metrics_text(place, "test", test, shown), flush=True)
  return test


def evaluate_as_written(
  directory: files.Path,
  total: int,
  evaluate: Callable[[str], CheckpointMetrics],
  shown: Sequence[str],
  wait: float = _WAIT_SECONDS,
  unit: str = STEPS,
) -> None:
  """Calls a function for every checkpoint, up to the one of the last number.

  Args:
    directory: where the checkpoints are; it may not exist yet. Results are
      written to a directory in it, which keeps those of checkpoints that were
      removed since.
    total: number of the last checkpoint.
    evaluate: gets the prefix of a checkpoint. It raises FileNotFoundError if
      the checkpoint was removed meanwhile.
    shown: names of the metrics that are printed, beside `loss`.
    wait: seconds between looks for new checkpoints.
    unit: what numbers of checkpoints count: iterations or steps.
  """
  directory = files.path(directory)
  results = directory / "evaluations"
  results.mkdir(parents=True, exist_ok=True)
  writer: MetricsWriter | None = None
  print(f"Evaluating the checkpoints of {directory}.", flush=True)
  last, is_waiting = -1, False
  while last < total:
    numbers = [n for n in checkpoints.list_numbers(directory) if n > last]
    if not numbers:
      if not is_waiting:
        after = f" after number {last}" if last >= 0 else ""
        print(
          f"Waiting for a checkpoint{after}; the last one will be "
          f"{checkpoints.name_of(total)}.",
          flush=True,
        )
      is_waiting = True
      time.sleep(wait)
      continue
    last, is_waiting = numbers[0], False
    if writer is None:
      writer = MetricsWriter(results, last - 1, unit)
    try:
      result = evaluate(str(directory / checkpoints.name_of(last)))
    except FileNotFoundError:
      continue  # It was removed meanwhile.
    except checkpoints.DamagedError as error:
      logging.warning("%s It is passed over.", error)
      continue
    place = {"iteration": result.iteration, "step": result.step}
    writer.write(result.step, place, {}, result.test)
    line = metrics_text(f"step {result.step}", "test", result.test, shown)
    print(line, flush=True)
  if writer is not None:
    writer.close()
