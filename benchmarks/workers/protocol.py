# SPDX-License-Identifier: Apache-2.0
"""The worker's side of the line protocol of `rounds.py`.

It needs the standard library alone, so that every environment can import it.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

Settings = Mapping[str, Any]
# Makes one measured unit and returns its seconds per step or update.
Unit = Callable[[], float]
# Sets a task up, warms it up, and returns its unit and its information.
Task = Callable[[Settings], tuple[Unit, dict[str, Any]]]


def main(tasks: Mapping[str, Task], description: str | None) -> None:
  """Serves the task that `--task` names until the input ends.

  Reads one line of settings (JSON) and answers `ready {info as JSON}`. Then,
  for every line `run`, makes one unit and answers with its seconds; `quit` or
  the end of the input ends it. Between lines the process is idle.

  Args:
    tasks: the tasks by name.
    description: text of `--help`.
  """
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument("--task", required=True, choices=sorted(tasks))
  task = tasks[parser.parse_args().task]
  answers = _keep_stdout()
  unit, info = task(json.loads(sys.stdin.readline()))
  print("ready", json.dumps(info), file=answers, flush=True)
  for line in sys.stdin:
    if line.strip() == "quit":
      break
    print(repr(float(unit())), file=answers, flush=True)


def _keep_stdout() -> TextIO:
  """Returns stdout for the protocol; what libraries print goes to stderr."""
  answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
  os.dup2(2, 1)
  return answers
