# SPDX-License-Identifier: Apache-2.0
"""Reads damaged files by every reader, for as long as is wanted.

  python tests/helpers/fuzz_readers.py --minutes=10 [READER ...]

Each reader runs in a process of its own. A finding is an error other than
ValueError or OSError, one without a text, a call of more than 20 seconds, more
than 500 MB of memory, or a process that ends by itself. The number of a damaged
file decides its damage, so that a finding can be repeated with --first.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import damage

from rigl.config import tensorflow_environment  # noqa: F401 - Comes first.

# isort: split
from reader_cases import READERS

SECONDS = 20
MEMORY = 500e6
# For the start of a process, and calls that no signal interrupts.
_SPARE_SECONDS = 180


class Counts(NamedTuple):
  """What came of damaged files.

  Attributes:
    tried: how many there were.
    refused: how many of them ended in one error.
    findings: what is wrong, one line each.
  """

  tried: int
  refused: int
  findings: list[str]


class HangError(BaseException):
  """A call takes too long; no code of ours handles it."""


@contextlib.contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
  """Raises `HangError` in a block that takes longer."""

  def end(*_: Any) -> None:
    raise HangError(f"more than {seconds} seconds")

  before = signal.signal(signal.SIGALRM, end)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Fuzzer:
  """Damages the file of a reader and reads it.

  Args:
    name: key of `READERS`.
    directory: an empty directory.
  """

  def __init__(self, name: str, directory: pathlib.Path) -> None:
    self._name, self._reader = name, READERS[name]
    self._place = directory / "files"
    self.path = self._place / self._reader.name
    self.path.parent.mkdir(parents=True)
    self._reader.make(self.path)
    self._contents = {
      path.relative_to(self._place): path.read_bytes()
      for path in self._place.rglob("*")
      if path.is_file()
    }
    self._whole = self.path.read_bytes()
    self._reader.read(self.path)

  def content(self, number: int) -> bytes:
    """The damaged file of a number."""
    rng = random.Random(f"{self._name} {number}")
    if rng.random() < 0.1:
      return damage.spliced(self._whole, rng)
    change = damage.damaged_text if self._reader.is_text else damage.damaged
    data = self._whole
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
      with contextlib.suppress(UnicodeDecodeError, ValueError):
        data = change(data, rng)
    return data

  def read(self, number: int) -> str:
    """Reads it; returns an empty text, the error of a finding or `refused`."""
    shutil.rmtree(self._place)
    for name, content in self._contents.items():
      (self._place / name).parent.mkdir(parents=True, exist_ok=True)
      (self._place / name).write_bytes(content)
    self.path.write_bytes(self.content(number))
    try:
      with no_longer_than(SECONDS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        self._reader.read(self.path)
    except (ValueError, OSError) as error:
      return "refused" if str(error) else "an error without a text"
    except (Exception, HangError) as error:
      return f"{type(error).__name__}: {error}"
    return ""


def fuzz(name: str, numbers: Iterator[int], directory: pathlib.Path) -> Counts:
  """Reads damaged files.

  Args:
    name: key of `READERS`.
    numbers: numbers of the files.
    directory: an empty directory.
  """
  fuzzer, before = Fuzzer(name, directory), damage.peak_memory()
  tried, refused, findings = 0, 0, []
  for number in numbers:
    found = fuzzer.read(number)
    tried += 1
    if damage.peak_memory() - before > MEMORY:
      found, before = "more than 500 MB", damage.peak_memory()
    refused += found == "refused"
    if found not in ("", "refused"):
      findings.append(f"{name}, {number}: {' '.join(found.split())[:300]}")
  return Counts(tried, refused, findings)


def _until(end: float, first: int, log: pathlib.Path) -> Iterator[int]:
  """Numbers from the first one up to a time; the log names the last."""
  while time.monotonic() < end:
    log.write_text(str(first))
    yield first
    first += 1


def _run_one(name: str, options: argparse.Namespace) -> None:
  """Fuzzes one reader, and prints the counts."""
  logging.disable()
  with tempfile.TemporaryDirectory() as directory:
    end = time.monotonic() + 60 * options.minutes
    numbers = _until(end, options.first, pathlib.Path(options.last))
    counts = fuzz(name, numbers, pathlib.Path(directory))
  for line in counts.findings:
    print(f"FINDING {line}")
  print(f"{counts.tried} files, {counts.refused} refused", flush=True)


def _output(command: list[str], seconds: float) -> tuple[list[str], str]:
  """The lines of a process, and what is wrong with its end."""
  try:
    done = subprocess.run(
      command, capture_output=True, text=True, timeout=seconds
    )
  except subprocess.TimeoutExpired:
    return [], "the process hangs"
  problem = f"exit code {done.returncode}: {done.stderr.strip()[-500:]}"
  return done.stdout.splitlines(), problem if done.returncode else ""


def _run_all(options: argparse.Namespace) -> int:
  """Fuzzes readers one after the other; returns the number of findings."""
  found = 0
  for name in options.readers or READERS:
    with tempfile.NamedTemporaryFile() as last:
      command = [
        *(sys.executable, __file__, f"--one={name}"),
        *(f"--minutes={options.minutes}", f"--first={options.first}"),
        f"--last={last.name}",
      ]
      began = time.monotonic()
      lines, problem = _output(command, 60 * options.minutes + _SPARE_SECONDS)
      if problem:
        number = pathlib.Path(last.name).read_text()
        lines.append(f"FINDING {name}, {number}: {problem}")
      seconds = time.monotonic() - began
      for line in lines:
        print(f"{name} ({seconds:.0f} s): {line}", flush=True)
      found += sum(line.startswith("FINDING") for line in lines)
  print(f"{found} findings")
  return found


def main() -> None:
  """Fuzzes the readers of the command line, by default all."""
  parser = argparse.ArgumentParser()
  parser.add_argument("readers", nargs="*", help=f"of {[*READERS]}")
  parser.add_argument("--minutes", type=float, default=1.0, help="per reader")
  parser.add_argument("--first", type=int, default=0, help="first number")
  parser.add_argument("--one", default="", help=argparse.SUPPRESS)
  parser.add_argument("--last", default="", help=argparse.SUPPRESS)
  options = parser.parse_args()
  unknown = [name for name in options.readers if name not in READERS]
  if unknown:
    parser.error(f"there is no reader {unknown[0]!r}; there are {[*READERS]}")
  if options.one:
    _run_one(options.one, options)
    return
  sys.exit(min(_run_all(options), 1))


if __name__ == "__main__":
  main()
