# SPDX-License-Identifier: Apache-2.0
"""Trains configurations of a task with several seeds, several at once.

  python scripts/train_all.py mnist --seeds=0,1,2,3,4 --jobs=32
  python scripts/train_all.py mnist --configs=rigl,set --output=my_runs \
    -- --num_epochs=5
  python scripts/train_all.py cifar10 --configs=rigl_erk_0.9,top_kast_erk_0.9 \
    --jobs=16 --gpus=0,1,2,3 -- --runner=jax --data_directory=cifar

Each run is a process of the training script, with the settings of its file in
configs/TASK/, in the directory CONFIG_seedNUMBER. The results of all finished
runs are in results.jsonl, one line each, and a table is printed at the end and
written to table.md. The same command resumes runs that were stopped and leaves
out finished ones.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import NamedTuple

from rigl.config import stop_signals

# isort: split
from rigl import file_contents, files

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLE = ROOT / "scripts" / "results_table.py"
_LINES = 5  # Of a log, that are printed of a run that failed.
# Of TensorFlow, so that processes share the cores.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Task(NamedTuple):
  """A training script, and its flags.

  Attributes:
    script: the script, below the root.
    path_flag: flag of the directory of a run.
    flags: flags of every run.
  """

  script: str
  path_flag: str
  flags: tuple[str, ...] = ()


TASKS = {
  "mnist": Task("rigl/mnist/mnist_train_eval.py", "save_path"),
  "cifar10": Task(
    "rigl/cifar_resnet/resnet_train_eval.py",
    "train_dir",
    ("--mode=train_and_eval",),
  ),
}


class Runs:
  """The processes that train.

  Args:
    task: name of the task.
    output: directory of the runs.
    flags: flags of the training script for every run.
    jobs: how many train at a time.
    gpus: numbers of the GPUs to train on, in turns. Empty: those that the
      training script finds.

  Attributes:
    signal: number of the signal that stopped them; None if there was none.
  """

  def __init__(
    self,
    task: str,
    output: pathlib.Path,
    flags: Sequence[str],
    jobs: int,
    gpus: Sequence[int],
  ) -> None:
    self._name, self._task = task, TASKS[task]
    self._output, self._flags = output, (*self._task.flags, *flags)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    self._environment = {**dict.fromkeys(_THREADS, threads), **os.environ}
    # The places of processes that train at the same time.
    self._places: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    for number in range(jobs):
      self._places.put(gpus[number % len(gpus)] if gpus else None)
    self._lock = threading.Lock()
    self._running: set[subprocess.Popen] = set()
    self.signal: int | None = None

  def train(self, config: str, seed: int) -> str | None:
    """Trains one run.

    Returns:
      None if it is finished or was stopped, else what went wrong.
    """
    gpu = self._places.get()
    try:
      return self._train(config, seed, gpu)
    except OSError as error:
      return f"{config}_seed{seed}: {error}"
    finally:
      self._places.put(gpu)

  def _train(self, config: str, seed: int, gpu: int | None) -> str | None:
    name = f"{config}_seed{seed}"
    log = self._output / f"{name}.log"
    command = [
      sys.executable,
      str(ROOT / self._task.script),
      f"--gin_config={config_file(self._name, config)}",
      f"--seed={seed}",
      f"--{self._task.path_flag}={self._output / name}",
      *self._flags,
    ]
    environment = self._environment
    if gpu is not None:
      # JAX would take most of the memory for one process.
      own = {"CUDA_VISIBLE_DEVICES": str(gpu)}
      shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
      environment = shared | environment | own
    with log.open("ab") as file:
      with self._lock:
        if self.signal is not None:
          return None
        process = subprocess.Popen(
          command,
          stdin=subprocess.DEVNULL,
          stdout=file,
          stderr=subprocess.STDOUT,
          env=environment,
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
    """Writes `results.jsonl` from the directories of all finished runs.

    Those with damaged files are left out; the table names them.
    """
    lines = []
    for place in sorted(self._output.glob("*_seed*/**/result.json")):
      with contextlib.suppress(KeyError, TypeError, ValueError, OSError):
        run = file_contents.read_json_object(place.parent / "run.json")
        line = {
          "run": place.relative_to(self._output).parts[0],
          "training_method": run["settings"]["training_method"],
          "seed": run["settings"]["seed"],
        }
        lines.append(json.dumps(line | file_contents.read_json_object(place)))
    files.write_text(
      self._output / "results.jsonl", "".join(f"{line}\n" for line in lines)
    )


def _end(log: pathlib.Path) -> str:
  lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
  return "\n".join(lines[-_LINES:])


def config_file(task: str, config: str) -> pathlib.Path:
  """The gin file of a configuration."""
  return ROOT / "configs" / task / f"{config}.gin"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
  """Reads and checks the command line."""
  parser = argparse.ArgumentParser(
    description=(__doc__ or "").split("\n")[0],
    epilog="Flags of the training script follow after --.",
  )
  parser.add_argument("task", choices=sorted(TASKS))
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    help="directory of the runs (default: rigl_runs/TASK_all)",
  )
  parser.add_argument(
    "--configs", help="files of configs/TASK/, with commas (default: all)"
  )
  parser.add_argument("--seeds", default="0", help="seeds, with commas")
  parser.add_argument(
    "--jobs", type=int, default=1, help="processes at a time; at least 1"
  )
  parser.add_argument(
    "--gpus",
    default="",
    help="numbers of the GPUs that processes take in turns, with commas",
  )
  words = list(sys.argv[1:] if arguments is None else arguments)
  end = words.index("--") if "--" in words else len(words)
  given = parser.parse_args(words[:end])
  given.flags = words[end + 1 :]
  if given.jobs < 1:
    parser.error(f"`jobs` must be at least 1, got {given.jobs}.")
  for name in ("seeds", "gpus"):
    value = getattr(given, name)
    parts = value.split(",") if value or name == "seeds" else []
    if not all(part.isdecimal() for part in parts):
      parser.error(f"`{name}` must be numbers with commas, got {value!r}.")
    setattr(given, name, list(dict.fromkeys(map(int, parts))))
  folder = ROOT / "configs" / given.task
  known = sorted({path.stem for path in folder.glob("*.gin")} - {"base"})
  if given.configs is None:
    given.configs = known
  else:
    given.configs = list(dict.fromkeys(given.configs.split(",")))
  unknown = [config for config in given.configs if config not in known]
  if unknown:
    parser.error(f"`configs` must be in {known}, got {unknown[0]!r}.")
  given.output = given.output or pathlib.Path("rigl_runs", f"{given.task}_all")
  return given


def main(arguments: Sequence[str] | None = None) -> int:
  """Trains what is not finished, and prints the table."""
  given = parse(arguments)
  try:
    given.output.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  runs = Runs(given.task, given.output, given.flags, given.jobs, given.gpus)
  failed = []
  with (
    concurrent.futures.ThreadPoolExecutor(given.jobs) as pool,
    stop_signals.deferred(runs.stop),
  ):
    waiting = [
      pool.submit(runs.train, config, seed)
      for seed in given.seeds
      for config in given.configs
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
    table = subprocess.run(
      [sys.executable, str(TABLE), str(given.output)],
      check=True,
      stdout=subprocess.PIPE,
      text=True,
    ).stdout
    print(table, end="")
    try:
      files.write_text(given.output / "table.md", table)
    except OSError as error:
      print(f"error: {error}", file=sys.stderr)
      return 1
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
