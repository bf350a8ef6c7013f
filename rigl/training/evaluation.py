"""Evaluates the checkpoints of a run while another process writes them."""

from __future__ import annotations

import time

from rigl.training import checkpoints
from rigl.training.metrics import MetricsWriter
from rigl.training.run import Run

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
  place = run.directory.path / "evaluations"
  place.mkdir(parents=True, exist_ok=True)
  writer = MetricsWriter(place)
  print(f"Evaluates the checkpoints of {run.directory.path}.", flush=True)
  last = -1
  while last < run.total:
    numbers = [
      n for n in checkpoints.list_numbers(run.directory.path) if n > last
    ]
    if not numbers:
      time.sleep(wait)
      continue
    last = numbers[0]
    try:
      run.loop.load(str(run.directory.path / f"model.ckpt-{last}"))
    except FileNotFoundError:
      continue  # It was forgotten meanwhile.
    test = run.test_metrics()
    step = int(run.global_step.numpy())
    writer.write(
      step, {"iteration": run.loop.iteration, "step": step}, {}, test
    )
    found = ", ".join(
      f"{name} {test[name]:.4f}" for name in ("loss", "accuracy")
    )
    print(f"step {step}: test {found}", flush=True)
  writer.close()
