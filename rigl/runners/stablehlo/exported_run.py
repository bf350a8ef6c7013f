# SPDX-License-Identifier: Apache-2.0
"""Exported run: makes the recorded calls on a device of JAX.

  python exported_run.py FOLDER

It needs NumPy and JAX (for its compiler and devices), not TensorFlow. Started
again, it resumes. `results.jsonl` holds the results of the calls, and
`state-end.npz` the state at the end.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pathlib
import signal
import time
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

try:  # As a part of the package, or beside it in an exported folder.
  from rigl.data.shuffling import window_length, window_order
  from rigl.pjrt.jax_client import Client, Executable
except ImportError:
  from jax_client import Client, Executable  # type: ignore[no-redef]
  from shuffling import window_length, window_order  # type: ignore[no-redef]

# Arguments of programs that change from call to call.
ARGUMENTS = ("order", "iteration", "count")

_STATE, _END, _RESULTS = "state-now.npz", "state-end.npz", "results.jsonl"
_DONE = "calls_done"
# Number of calls whose results may stay on the device before they are read.
_PENDING = 100
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What a folder that is no exported run, is damaged or is not whole leads to.
_WRONG_FOLDER = (
  OSError,
  ValueError,
  TypeError,
  EOFError,
  zipfile.BadZipFile,
  zlib.error,
)
# Signals within this time of the first are the same request to stop.
_SAME_SECONDS = 0.3


class NamedProgram:
  """A compiled program whose arguments and results have names.

  Args:
    executable: the program.
    inputs: names of its arguments.
    outputs: names of what it returns: `results/...` and changed inputs.
  """

  def __init__(
    self, executable: Executable, inputs: Sequence[str], outputs: Sequence[str]
  ) -> None:
    self._executable = executable
    self._inputs, self._outputs = inputs, outputs

  def __call__(self, values: dict[str, Any]) -> dict[str, Any]:
    """Runs it; changes values by name and returns the results."""
    found = self._executable([values[name] for name in self._inputs])
    results = {}
    for name, array in zip(self._outputs, found, strict=True):
      kind, _, rest = name.partition("/")
      if kind == "results":
        results[rest] = array
      else:
        values[name] = array
    return results


class ExportedRun:
  """An exported run on a device.

  Args:
    folder: the folder that `export` wrote.
    platform: `cpu` or `gpu`. None: JAX's choice.
    data: the folder of the data. None: `data` in the folder.

  Raises:
    ValueError: if a file is damaged, something is missing in it, or there is no
      such device. A damaged file may also lead to another error of Python.
    OSError: if a file is missing.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    platform: str | None = None,
    data: str | os.PathLike | None = None,
  ) -> None:
    self._folder = pathlib.Path(folder)
    self._data = pathlib.Path(data) if data else self._folder / "data"
    self._plan = json.loads((self._folder / "plan.json").read_text())
    self._client = Client(platform, count=1)
    self._window = -1
    self._pending: list[tuple[Any, dict[str, Any]]] = []
    self._load_state()
    self._load_programs()

  @property
  def is_finished(self) -> bool:
    """Whether every call was made."""
    return self._done == len(self._plan["calls"])

  def run(self, seconds: float = float("inf")) -> None:
    """Makes the calls that are left, or stops after some seconds.

    Args:
      seconds: when to stop.

    Raises:
      SystemExit: after SIGTERM or SIGINT, with the code of a shell; the state
        is saved. A second signal ends the process at once.
    """
    signals: list[int] = []
    first_at = float("inf")

    def stop(number: int, frame: object) -> None:
      nonlocal first_at
      del frame
      if time.monotonic() > first_at + _SAME_SECONDS:
        os._exit(128 + number)
      first_at = min(first_at, time.monotonic())
      signals.append(number)

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
      self._run(seconds, signals)
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)
    if signals and not self.is_finished:
      print(f"Stopped after {self._done} calls. The same command resumes it.")
      raise SystemExit(128 + signals[0])

  def _run(self, seconds: float, signals: list[int]) -> None:
    start, first = time.monotonic(), self._done
    end = start + seconds
    for call in self._plan["calls"][self._done :]:
      self._done += 1
      if call[0] == "save":
        self._save()
      else:
        self._call(call)
      if signals or time.monotonic() > end:
        break
    self._save()
    calls = self._plan["calls"][first : self._done]
    steps = sum(call[2] for call in calls if call[0] == "train")
    passed = time.monotonic() - start
    print(
      f"{self._folder}: {steps} steps in {passed:.1f} s, "
      f"{1e3 * passed / max(steps, 1):.3f} ms a step"
    )
    if self.is_finished:
      state = self._folder / _STATE
      os.replace(state, self._folder / _END)

  def _call(self, call: list[Any]) -> None:
    kind, *numbers = call
    if kind in ("train", "update"):
      self._set_order(numbers[0])
      for name, number in zip(ARGUMENTS[1:], numbers, strict=False):
        self._values[name] = self._client.put(np.int64(number))
    found = self._programs[kind](self._values)
    self._pending.append((call, found))
    if len(self._pending) >= _PENDING:
      self._write_results()

  def _set_order(self, iteration: int) -> None:
    sizes = (self._plan["num_examples"], self._plan["batch_size"])
    window = iteration // window_length(*sizes)
    if window != self._window:
      order = window_order(self._plan["seed"], window, *sizes)
      self._values["order"] = self._client.put(order)
      self._window = window

  def _write_results(self) -> None:
    with (self._folder / _RESULTS).open("a") as file:
      for call, found in self._pending:
        numbers = {name: float(np.asarray(v)) for name, v in found.items()}
        file.write(json.dumps([call, numbers]) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self._pending = []

  def _load_state(self) -> None:
    """Loads the newest state, and drops results that are newer."""
    self._done = 0
    path = self._folder / _STATE
    if (self._folder / _END).exists():
      raise SystemExit(f"The run in {self._folder} is finished.")
    with np.load(path if path.exists() else self._folder / "state.npz") as file:
      state = dict(file)
    self._done = int(state.pop(_DONE, 0))
    self._state_names = list(state)
    self._values = {
      f"state/{name}": self._client.put(value) for name, value in state.items()
    }
    done = self._plan["calls"][: self._done]
    count = sum(call[0] != "save" for call in done)
    results = self._folder / _RESULTS
    lines = results.read_text().splitlines(True) if results.exists() else []
    temporary = self._folder / (_RESULTS + ".tmp")
    temporary.write_text("".join(lines[:count]))
    os.replace(temporary, results)  # A kill loses nothing.

  def _load_programs(self) -> None:
    with np.load(self._folder / "constants.npz") as constants:
      for name in constants.files:
        self._values[name] = self._client.put(constants[name])
    with gzip.open(self._folder / "programs.json.gz", "rt") as file:
      programs = json.load(file)
    for path in self._data.glob("*.npy"):
      name = "data/" + path.stem.replace("_", "/", 1)
      self._values[name] = self._client.put(np.load(path))
    needed = {n for program in programs.values() for n in program["inputs"]}
    if missing := needed.difference(self._values, ARGUMENTS):
      raise ValueError(
        f"there is no {min(missing)!r}, which the programs need; the data was "
        f"looked for in `{self._data}`."
      )
    self._programs = {
      kind: NamedProgram(
        self._client.compile(program["text"]),
        program["inputs"],
        program["outputs"],
      )
      for kind, program in programs.items()
    }

  def _save(self) -> None:
    """Writes the state, whole or not at all."""
    self._write_results()
    values = {
      name: np.asarray(self._values[f"state/{name}"])
      for name in self._state_names
    }
    temporary = self._folder / (_STATE + ".tmp")
    with temporary.open("wb") as file:
      savez: Any = np.savez
      savez(file, **values, **{_DONE: np.int64(self._done)})
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, self._folder / _STATE)


def main() -> None:
  """Runs the folder of the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder")
  parser.add_argument("--platform", choices=("cpu", "gpu"))
  parser.add_argument(
    "--data", help="folder of the data, by default FOLDER/data"
  )
  parser.add_argument(
    "--seconds", type=float, default=float("inf"), help="when to stop"
  )
  args = parser.parse_args()
  try:
    _run_folder(args)
  except KeyboardInterrupt:
    print("Stopped by SIGINT.")
    raise SystemExit(128 + signal.SIGINT) from None


def _run_folder(args: argparse.Namespace) -> None:
  started = time.monotonic()
  try:
    run = ExportedRun(args.folder, args.platform, args.data)
  except KeyError as error:
    raise SystemExit(f"error: `{args.folder}` lacks {error}.") from None
  except ModuleNotFoundError as error:
    raise SystemExit(f"error: {error.name} is not installed.") from None
  except _WRONG_FOLDER as error:
    text = " ".join(str(error).split())
    raise SystemExit(f"error: `{args.folder}`: {text}") from None
  print(f"{args.folder}: ready after {time.monotonic() - started:.0f} s")
  run.run(args.seconds)
  print(
    f"{args.folder}: {'finished' if run.is_finished else 'stopped'} after "
    f"{time.monotonic() - started:.0f} s",
    flush=True,
  )


if __name__ == "__main__":
  main()
