# SPDX-License-Identifier: Apache-2.0
"""Processes in which packages cannot be imported, as if not installed."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

_HIDE = """
import sys

class Hiding:
  def __init__(self, finder):
    self._finder = finder

  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in HIDDEN:
      return None
    return self._finder.find_spec(name, path, target)

sys.meta_path = [Hiding(finder) for finder in sys.meta_path]
"""


def run_without_tensorflow(code, *arguments, cwd=ROOT):
  """Runs Python code; `arguments` are its command line."""
  return run_without(("tensorflow", "keras"), code, *arguments, cwd=cwd)


def run_without(packages, code, *arguments, cwd=ROOT):
  """Runs Python code without packages; `arguments` are its command line."""
  return subprocess.run(
    [
      sys.executable,
      "-c",
      f"HIDDEN = {packages!r}\n{_HIDE}\n{code}",
      *arguments,
    ],
    cwd=cwd,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
