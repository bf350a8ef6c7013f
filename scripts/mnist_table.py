# SPDX-License-Identifier: Apache-2.0
"""Trains all methods on MNIST with several seeds, several at once.

  python scripts/mnist_table.py --output=rigl_runs/mnist_methods --jobs=32
  python scripts/mnist_table.py --output=my_runs --methods=rigl,set --seeds=2 \
    --num_epochs=5 -- --maskupdate_frequency=50

Each run is a process of the training script, with the settings of its file in
configs/mnist/, in the directory METHOD_seedNUMBER. The results of all finished
runs are in results.jsonl, one line each, and a table is printed at the end. The
same command resumes runs that were stopped and leaves out finished ones.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Sequence

from rigl.config import stop_signals

# isort: split
from rigl import files

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "mnist"
SCRIPT = ROOT / "rigl" / "mnist" / "mnist_train_eval.py"
TABLE = ROOT / "scripts" / "results_table.py"
_LINES = 5  # Of a log, that are printed of a run that failed.
# Of TensorFlow, so that processes share the cores.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Runs:
  """The processes that train.

  Args:
    output: directory of the runs.
    flags: flags of the training script for every run.
    threads: threads of each process.

  Attributes:
    signal: number of the signal that stopped them; None if there was none.
  """

  def __init__(
    self, output: pathlib.Path, flags: Sequence[str], threads: int
  ) -> None:
    self._output, self._flags = output, flags
    chosen = {name: str(threads) for name in _THREADS}
    self._environment = {**chosen, **os.environ}
    self._lock = threading.Lock()
    self._running: set[subprocess.Popen] = set()
    self.signal: int | None = None

  def train(self, method: str, seed: int) -> str | None:
    """Trains one run.

    Returns:
      None if it is finished or was stopped, else what went wrong.
    """
    name = f"{method}_seed{seed}"
    log = self._output / f"{name}.log"
    command = [
      sys.executable,
      str(SCRIPT),
      f"--gin_config={CONFIGS / method}.gin",
      f"--seed={seed}",
      f"--save_path={self._output / name}",
      *self._flags,
    ]
    with log.open("ab") as file:
      with self._lock:
        if self.signal is not None:
          return None
        process = subprocess.Popen(
          command,
          stdin=subprocess.DEVNULL,
          stdout=file,
          stderr=subprocess.STDOUT,
          env=self._environment,
        )
        self._running.add(process)
      code = process.wait()
    with self._lock:
      self._running.remove(process)
      if not code:
        self._write_results()
      if not code or self.signal is not None:
        return None
    return f"{name}: exit code {code}; the end of {log}:\n{_end(log)}"

  def stop(self, number: int) -> None:
    """Sends a signal to all processes, and starts no more."""
    with self._lock:
      self.signal = number
      for process in self._running:
        process.send_signal(number)

  def _write_results(self) -> None:
    """Writes `results.jsonl` from the directories of all finished runs."""
    lines = []
    for place in sorted(self._output.glob("*_seed*/result.json")):
      settings = json.loads((place.parent / "run.json").read_text())["settings"]
      chosen = ("training_method", "seed", "num_epochs")
      line = {name: settings[name] for name in chosen}
      lines.append(json.dumps({**line, **json.loads(place.read_text())}))
    files.write_text(
      self._output / "results.jsonl", "".join(f"{line}\n" for line in lines)
    )


def _end(log: pathlib.Path) -> str:
  lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
  return "\n".join(lines[-_LINES:])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
  """Reads and checks the command line."""
  known = sorted({path.stem for path in CONFIGS.glob("*.gin")} - {"base"})
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    default=pathlib.Path("rigl_runs/mnist_methods"),
    help="directory of the runs",
  )
  parser.add_argument(
    "--jobs", type=int, default=1, help="processes at a time; at least 1"
  )
  parser.add_argument(
    "--seeds", type=int, default=5, help="seeds 0, 1, ... of each method"
  )
  parser.add_argument(
    "--methods", default=",".join(known), help="files of configs/mnist/"
  )
  parser.add_argument("--num_epochs", type=int, default=200)
  parser.add_argument(
    "flags", nargs="*", help="flags of the training script, after --"
  )
  given = parser.parse_args(arguments)
  for name in ("jobs", "seeds", "num_epochs"):
    if getattr(given, name) < 1:
      parser.error(f"`{name}` must be at least 1, got {getattr(given, name)}.")
  given.methods = given.methods.split(",")
  unknown = [method for method in given.methods if method not in known]
  if unknown:
    parser.error(f"`methods` must be in {known}, got {unknown[0]!r}.")
  return given


def main(arguments: Sequence[str] | None = None) -> int:
  """Trains what is not finished, and prints the table."""
  given = parse(arguments)
  try:
    given.output.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  runs = Runs(
    given.output,
    [f"--num_epochs={given.num_epochs}", *given.flags],
    max(1, (os.cpu_count() or 1) // given.jobs),
  )
  failed = []
  with (
    concurrent.futures.ThreadPoolExecutor(given.jobs) as pool,
    stop_signals.deferred(runs.stop),
  ):
    waiting = [
      pool.submit(runs.train, method, seed)
      for seed in range(given.seeds)
      for method in given.methods
    ]
    for number, done in enumerate(
      concurrent.futures.as_completed(waiting), start=1
    ):
      problem = done.result()
      if problem is not None:
        failed.append(problem)
        print(problem, file=sys.stderr)
      if runs.signal is None:
        print(f"{number} of {len(waiting)} runs", flush=True)
  if runs.signal is not None:
    print("Stopped. The same command resumes the runs.", file=sys.stderr)
    return 128 + runs.signal
  if len(failed) < len(waiting):
    subprocess.run([sys.executable, str(TABLE), str(given.output)], check=True)
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
