"""Evaluates the checkpoints of a run while another process writes them."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

from rigl.training import checkpoints, files
from rigl.training.metrics import MetricsWriter
from rigl.training.trainer import Run

_WAIT_SECONDS = 5.0


def evaluate_checkpoints(run: Run, wait: float = _WAIT_SECONDS) -> None:
  """Evaluates every checkpoint there is and comes, up to the end of the run.

  What was found is printed and written to `evaluations/metrics.csv` and
  TensorBoard files below the directory of the run.

  Args:
    run: the run; its variables are overwritten.
    wait: seconds between looks for new checkpoints.

  Raises:
    ValueError: if a checkpoint does not fit.
  """

  def evaluate(prefix: str) -> tuple[dict[str, int], dict[str, float]]:
    run.loop.load(prefix)
    step = int(run.global_step.numpy())
    return {"iteration": run.loop.iteration, "step": step}, run.test_metrics()

  evaluate_as_written(run.directory.path, run.total, evaluate, wait)


def evaluate_as_written(
  directory: files.Path,
  total: int,
  evaluate: Callable[[str], tuple[dict[str, int], dict[str, float]]],
  wait: float = _WAIT_SECONDS,
) -> None:
  """Calls something on every checkpoint up to that with the last number.

  Args:
    directory: that of the checkpoints; it may not exist yet. What was found
      is written below it.
    total: number of the last checkpoint.
    evaluate: gets the prefix of a checkpoint, returns columns that say where
      in the run it is, `iteration` and `step`, and the metrics. It raises
      FileNotFoundError if the checkpoint was forgotten meanwhile.
    wait: seconds between looks for new checkpoints.
  """
  directory = pathlib.Path(directory)
  place = directory / "evaluations"
  place.mkdir(parents=True, exist_ok=True)
  writer = MetricsWriter(place)
  print(f"Evaluates the checkpoints of {directory}.", flush=True)
  last = -1
  while last < total:
    numbers = [n for n in checkpoints.list_numbers(directory) if n > last]
    if not numbers:
      time.sleep(wait)
      continue
    last = numbers[0]
    try:
      position, test = evaluate(str(directory / f"model.ckpt-{last}"))
    except FileNotFoundError:
      continue  # It was forgotten meanwhile.
    writer.write(position["step"], position, {}, test)
    found = ", ".join(
      f"{name} {test[name]:.4f}" for name in ("loss", "accuracy")
    )
    print(f"step {position['step']}: test {found}", flush=True)
  writer.close()
