# SPDX-License-Identifier: Apache-2.0
"""Runs a script in a process that kills itself at a chosen moment.

  python die_at.py MOMENT NTH DELAY NOTE SCRIPT [FLAG ...]

SIGKILL comes DELAY seconds after the NTH call of the function that MOMENT
names, from another thread, so that it hits TensorFlow's code as well. NOTE is a
file: the duration of every call is added to it, and at the end whether the
function was still running.
"""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import signal
import sys
import threading
import time
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401 - Comes first.

# isort: split
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.training import checkpoints
from rigl.training.loop import Loop
from rigl.training.metrics import MetricsWriter
from rigl.training.run_directory import RunDirectory

# Functions by the names of moments. `training` lasts to the end of the run.
MOMENTS: dict[str, tuple[Any, str]] = {
  "training": (Loop, "run"),
  "checkpoint": (checkpoints, "save"),
  "evaluation": (TensorFlowExecutor, "evaluate"),
  "metrics": (MetricsWriter, "write"),
  "start": (RunDirectory, "start"),
  "result": (RunDirectory, "finish"),
}


def note(path: pathlib.Path, **values: Any) -> None:
  """Adds a line to a file."""
  with path.open("a") as file:
    file.write(json.dumps(values) + "\n")


def arm(moment: str, nth: int, delay: float, path: pathlib.Path) -> None:
  """Changes the function of a moment so that a call of it ends the process."""
  owner, name = MOMENTS[moment]
  function, calls = getattr(owner, name), [0]
  is_running = threading.Event()

  def kill() -> None:
    time.sleep(delay)
    note(path, moment=moment, inside=is_running.is_set())
    os.kill(os.getpid(), signal.SIGKILL)

  def wrapper(*args: Any, **kwargs: Any) -> Any:
    calls[0] += 1
    began = time.monotonic()
    if calls[0] == nth:
      is_running.set()
      threading.Thread(target=kill, daemon=True).start()
    try:
      return function(*args, **kwargs)
    finally:
      is_running.clear()
      note(path, moment=moment, seconds=time.monotonic() - began)

  setattr(owner, name, wrapper)


def main() -> None:
  """Runs the script of the command line."""
  moment, nth, delay, path, script, *flags = sys.argv[1:]
  for name in MOMENTS:  # Without a kill, durations are noted all the same.
    is_chosen = name == moment
    arm(name, int(nth) if is_chosen else 0, float(delay), pathlib.Path(path))
  sys.argv = [script, *flags]
  runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
  main()
