# SPDX-License-Identifier: Apache-2.0
"""Kills runs at random moments and compares what comes of them.

  python tests/helpers/kill_runs.py --kills=20 --seed=0 [mnist] [cifar10]

The same command is started again after each kill, until it ends; then the next
run begins. Every run has to end with the same bits as one that nobody killed,
and its files have to be readable after each kill.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

import cifar_runs
import die_at
import mnist_runs
import script_runs

from rigl.mnist.mask_records import MaskRecords
from rigl.training import checkpoints, metrics_table, run_directory, unreported

METHOD = ("--training_method=rigl", "--maskupdate_frequency=3")
_MOST_KILLS = 4  # Of one run.


@dataclasses.dataclass(frozen=True)
class Script:
  """A command whose runs are killed.

  Attributes:
    path: the script.
    flags: its flags.
    directory: the flag of the directory.
    compare: compares two runs.
  """

  path: pathlib.Path
  flags: tuple[str, ...]
  directory: str
  compare: Callable[[pathlib.Path, pathlib.Path], None]

  def command(self, place: pathlib.Path) -> list[str]:
    """The command of a run in a directory."""
    return [str(self.path), *self.flags, f"--{self.directory}={place}"]


SCRIPTS = {
  "mnist": Script(
    mnist_runs.SCRIPT,
    (
      *mnist_runs.SHORT,
      *METHOD,
      "--num_epochs=20",
      "--checkpoint_epochs=2",
      "--mask_record_frequency=5",
    ),
    "save_path",
    mnist_runs.assert_same_run,
  ),
  "cifar10": Script(
    cifar_runs.SCRIPT,
    (
      *cifar_runs.SHORT,
      *METHOD,
      "--mode=train_and_eval",
      "--max_steps=24",
    ),
    "train_dir",
    script_runs.assert_same_results,
  ),
}


@dataclasses.dataclass
class Tally:
  """What was killed.

  Attributes:
    kills: number by moment: the name, and `inside` if the function was running
      when the process died.
    runs: number of runs that ended and were compared.
  """

  kills: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter
  )
  runs: int = 0


class Campaign:
  """Kills runs of a script.

  Args:
    script: the script.
    directory: an empty directory.
    seed: decides the moments.
  """

  def __init__(
    self, script: Script, directory: pathlib.Path, seed: int
  ) -> None:
    self._script, self._directory = script, directory
    self._random, self._notes = random.Random(seed), directory / "notes"
    self.tally = Tally()
    done = self._start(directory / "whole", "training", 0, 0.0)
    if done.returncode:
      raise AssertionError(done.stderr)
    self._whole = only_run(directory / "whole")
    self._seconds = self._durations()
    self._notes.unlink()

  def kill(self, count: int) -> None:
    """Kills so many processes; the last run is brought to its end.

    Raises:
      AssertionError: if a run ends with other results, or fails.
    """
    while self.tally.kills.total() < count:
      place = self._directory / f"killed{self.tally.runs}"
      left = min(_MOST_KILLS, count - self.tally.kills.total())
      while left and self._kill_once(place):
        left -= 1
      done = self._start(place, "training", 0, 0.0)
      assert done.returncode == 0, done.stderr
      self._compare(only_run(place))
      self.tally.runs += 1

  def _kill_once(self, place: pathlib.Path) -> bool:
    """Starts the command and kills it; returns False if it ended before."""
    moment = self._random.choice([*die_at.MOMENTS, "training", "checkpoint"])
    seconds = self._seconds[moment]
    nth = self._random.randint(1, max(len(seconds) // 2, 1))
    delay = self._random.uniform(0, seconds[min(nth, len(seconds)) - 1])
    before = len(self._lines())
    done = self._start(place, moment, nth, delay)
    if done.returncode != -signal.SIGKILL:
      assert done.returncode == 0, done.stderr
      return False
    died = [line for line in self._lines()[before:] if "inside" in line]
    inside = " inside" if died and died[-1]["inside"] else ""
    self.tally.kills[moment + inside] += 1
    for found in place.rglob("run.json"):
      assert_readable(found.parent)
    return True

  def _start(
    self, place: pathlib.Path, moment: str, nth: int, delay: float
  ) -> subprocess.CompletedProcess[str]:
    command = [
      *(sys.executable, die_at.__file__, moment, str(nth), str(delay)),
      *(str(self._notes), *self._script.command(place)),
    ]
    return subprocess.run(command, capture_output=True, text=True)

  def _compare(self, place: pathlib.Path) -> None:
    """Compares a run that was killed with the one that was not."""
    self._script.compare(place, self._whole)
    left = {
      path.name for path in place.iterdir() if path.name != "metrics.csv.old"
    }
    assert left == {path.name for path in self._whole.iterdir()}

  def _durations(self) -> dict[str, list[float]]:
    """The seconds of all calls of a run that nobody killed, by moment."""
    found: dict[str, list[float]] = {name: [] for name in die_at.MOMENTS}
    for line in self._lines():
      found[line["moment"]].append(line["seconds"])
    return found

  def _lines(self) -> list[dict]:
    if not self._notes.exists():
      return []
    return [json.loads(line) for line in self._notes.read_text().splitlines()]


def only_run(place: pathlib.Path) -> pathlib.Path:
  """The directory of the only run at or below a directory."""
  (found,) = place.rglob("run.json")
  return found.parent


def assert_readable(place: pathlib.Path) -> None:
  """The files of a run that was killed are whole, or not there."""
  assert run_directory.read_settings(place)
  numbers = checkpoints.list_numbers(place)
  for number in numbers:
    assert checkpoints.load(str(place / checkpoints.name_of(number)))
  assert checkpoints.load_latest(place) or not numbers
  table = place / "metrics.csv"
  if table.exists():
    text = table.read_text()
    assert not text or metrics_table.parse(text).problems == []
  result = place / "result.json"
  assert not result.exists() or json.loads(result.read_text())["sparsity"]
  unreported.load(place, 0)
  assert not [*place.glob("*.damaged*")]
  if (place / "mask_records.npz").exists():
    MaskRecords.load(place / "mask_records.npz")


def main() -> None:
  """Kills runs of the scripts that the command line names, by default all."""
  parser = argparse.ArgumentParser()
  parser.add_argument("scripts", nargs="*", help=f"of {[*SCRIPTS]}")
  parser.add_argument("--kills", type=int, default=20, help="of each script")
  parser.add_argument("--seed", type=int, default=0, help="of the moments")
  options = parser.parse_args()
  for name in options.scripts or SCRIPTS:
    with tempfile.TemporaryDirectory() as directory:
      path = pathlib.Path(directory)
      campaign = Campaign(SCRIPTS[name], path, options.seed)
      campaign.kill(options.kills)
    tally = campaign.tally
    print(
      f"{name}: {tally.kills.total()} kills, {tally.runs} runs with the same "
      f"bits: {dict(sorted(tally.kills.items()))}",
      flush=True,
    )


if __name__ == "__main__":
  main()
