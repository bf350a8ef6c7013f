# SPDX-License-Identifier: Apache-2.0
"""Runs contestants alternately and compares their times as ratios.

`workers/` holds the work of contestants; this module knows no library.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import argument_types
import quiet

_WORKERS = pathlib.Path(__file__).parent / "workers"
# Measurements with more busy cores of other processes are not reliable.
_NOT_QUIET = 0.1


@dataclass(frozen=True)
class Contestant:
  """A program to measure.

  Attributes:
    name: its name in tables.
    worker: file name in `workers/`.
    task: a task of that worker.
    settings: settings of the task, for JSON.
    peer: whether it runs under `--peer_python`.
  """

  name: str
  worker: str
  task: str
  settings: Mapping[str, Any]
  peer: bool = False


@dataclass
class Result:
  """Measurements of a contestant.

  Attributes:
    name: its name.
    info: what the worker reported when it was ready.
    seconds: seconds per step or update, of each round.
    others: cores that other processes kept busy, of each round; None if
      unknown.
  """

  name: str
  info: Mapping[str, Any]
  seconds: list[float] = field(default_factory=list)
  others: list[float | None] = field(default_factory=list)

  @property
  def median(self) -> float:
    """The median of the rounds, in seconds."""
    return statistics.median(self.seconds)

  @property
  def busiest(self) -> float:
    """The most cores that others kept busy in a round; 0 if unknown."""
    return max(cores or 0.0 for cores in self.others)


class Worker:
  """A contestant's process, idle unless it was asked to run.

  Args:
    contestant: what it measures.
    python: the interpreter.

  Raises:
    RuntimeError: if it ends before it is ready, with its last line of output.
  """

  def __init__(self, contestant: Contestant, python: str) -> None:
    # quit() closes it.
    self._log = tempfile.TemporaryFile(  # noqa: SIM115
      "w+", encoding="utf-8", errors="replace"
    )
    script = str(_WORKERS / contestant.worker)
    try:
      self._process = subprocess.Popen(
        [python, script, f"--task={contestant.task}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._log,
        encoding="utf-8",
      )
    except OSError as error:
      raise RuntimeError(str(error)) from error
    answer = self._ask(json.dumps(contestant.settings))
    self.info = json.loads(answer.removeprefix("ready "))

  def run(self, result: Result) -> None:
    """Runs one unit and adds its measurements to `result`."""
    meter = quiet.OthersMeter(self._process.pid)
    result.seconds.append(float(self._ask("run")))
    result.others.append(meter.cores())

  def quit(self) -> None:
    """Ends the process."""
    self._process.communicate("quit\n")
    self._log.close()

  def _ask(self, line: str) -> str:
    try:
      self._process.stdin.write(line + "\n")
      self._process.stdin.flush()
    except BrokenPipeError:
      pass
    answer = self._process.stdout.readline().strip()
    if not answer:
      raise RuntimeError(self._last_words())
    return answer

  def _last_words(self) -> str:
    code = self._process.wait()
    self._log.seek(0)
    lines = [line.strip() for line in self._log if line.strip()]
    return lines[-1] if lines else f"ended with code {code}"


def argument_parser(
  description: str | None, rounds: int
) -> argparse.ArgumentParser:
  """Returns a parser of the flags that all comparisons have.

  Args:
    description: text of `--help`.
    rounds: the default of `--rounds`.
  """
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument(
    "--rounds",
    type=argument_types.count,
    default=rounds,
    help="measurements of each contestant",
  )
  parser.add_argument(
    "--peer_python",
    default=sys.executable,
    help="Python interpreter that has requirements-peers.txt installed; "
    "default: this one",
  )
  parser.add_argument(
    "--json",
    type=argument_types.output,
    help="file to write all measurements to",
  )
  parser.add_argument(
    "--seed", type=argument_types.seed, default=0, help="of data and order"
  )
  parser.add_argument(
    "--quick", action="store_true", help="2 small rounds, to see that it works"
  )
  return parser


def compare(
  contestants: Sequence[Contestant], reference: str, args: argparse.Namespace
) -> list[Result]:
  """Measures all contestants and prints a table; writes `--json`.

  Contestants that cannot start are left out.

  Args:
    contestants: what to measure.
    reference: name of the contestant that ratios refer to.
    args: the arguments, parsed by `argument_parser`.

  Returns:
    The results of those that started.

  Raises:
    SystemExit: if the reference did not start.
  """
  results = measure(contestants, args)
  if reference not in [result.name for result in results]:
    raise SystemExit(f"{reference} did not start; it is the reference.")
  print(table(results, reference))
  if max(result.busiest for result in results) >= _NOT_QUIET:
    print("The machine was not quiet (see `others`); do not quote these.")
  if args.json:
    write_json(args.json, contestants, results, args)
  return results


def measure(
  contestants: Iterable[Contestant], args: argparse.Namespace
) -> list[Result]:
  """Runs rounds in which every contestant has one turn, in random order."""
  workers = _start(contestants, args.peer_python)
  results = {name: Result(name, w.info) for name, w in workers.items()}
  order = list(workers)
  shuffle = random.Random(args.seed).shuffle
  try:
    for _ in range(2 if args.quick else args.rounds):
      shuffle(order)
      for name in order:
        workers[name].run(results[name])
  finally:
    for worker in workers.values():
      worker.quit()
  return list(results.values())


def _start(
  contestants: Iterable[Contestant], peer_python: str
) -> dict[str, Worker]:
  """Starts and warms up one after the other."""
  workers = {}
  for contestant in contestants:
    python = peer_python if contestant.peer else sys.executable
    try:
      worker = workers[contestant.name] = Worker(contestant, python)
      details = ", ".join(f"{key} {_text(v)}" for key, v in worker.info.items())
      print(f"{contestant.name}: ready, {details}", flush=True)
    except RuntimeError as error:
      print(f"{contestant.name}: left out, {error}", flush=True)
  return workers


def _text(value: Any) -> str:
  return f"{value:.1f}" if isinstance(value, float) else str(value)


def table(results: Sequence[Result], reference: str) -> str:
  """Returns medians, spreads and ratios as text.

  Args:
    results: the results of `measure`.
    reference: name of the result that ratios refer to.
  """
  base = next(r.median for r in results if r.name == reference)
  scale, unit = (1, "s") if base >= 1 else (1e3, "ms")
  width = max(len(result.name) for result in results)
  names = ("median", "min", "max", "ratio", "others")
  heads = " ".join(f"{name:>10}" for name in names)
  rows = [f"{unit:{width}} {heads}"]
  for r in results:
    times = (r.median, min(r.seconds), max(r.seconds))
    cells = " ".join(f"{time * scale:10.3f}" for time in times)
    rows.append(
      f"{r.name:{width}} {cells} {r.median / base:10.2f} {r.busiest:10.2f}"
    )
  return "\n".join(rows)


def write_json(
  path: str,
  contestants: Iterable[Contestant],
  results: Iterable[Result],
  args: argparse.Namespace,
) -> None:
  """Writes settings, machine and every single measurement."""
  settings = {c.name: c.settings for c in contestants}
  content = {
    "machine": {
      "platform": platform.platform(),
      "processor": platform.processor(),
      "cores": os.cpu_count(),
    },
    "quick": args.quick,
    "results": [
      {
        "name": r.name,
        "info": r.info,
        "median": r.median,
        "seconds": r.seconds,
        "others": r.others,
        "settings": settings[r.name],
      }
      for r in results
    ],
  }
  pathlib.Path(path).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
