# SPDX-License-Identifier: Apache-2.0
"""LiteRT's WebAssembly build, as browsers run it, in a process of Node."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

_FOLDER = pathlib.Path(__file__).resolve().parent
# Where `npm ci` of the example puts `@litertjs/core`.
NODE_MODULES = _FOLDER.parents[1] / "examples" / "web" / "node_modules"


def missing() -> str | None:
  """What is not installed, and how to get it; None if nothing is missing."""
  if shutil.which("node") is None:
    return "Node is not installed"
  if not (NODE_MODULES / "@litertjs" / "core").is_dir():
    return "LiteRT.js is not installed (npm ci --prefix examples/web)"
  return None


class NodeRuntime:
  """A process that computes LiteRT files with one thread.

  >>> with NodeRuntime() as runtime:
  ...   network = runtime.load("digits.tflite", {"images": images})
  ...   milliseconds = runtime.run(network)
  """

  def __init__(self) -> None:
    # A file cannot fill up, as a pipe that nobody reads does.
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` ends it.
    self._process = subprocess.Popen(
      ["node", str(_FOLDER / "litert_node.mjs"), str(NODE_MODULES)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
    )

  def __enter__(self) -> NodeRuntime:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self.close()

  def close(self) -> None:
    """Ends the process."""
    for pipe in (self._process.stdin, self._process.stdout):
      if pipe is not None:
        pipe.close()
    self._process.kill()
    self._process.wait()
    self._errors.close()

  def load(
    self, place: str | os.PathLike, inputs: Mapping[str, np.ndarray]
  ) -> int:
    """Loads a file with the inputs of its calls; returns its number.

    Args:
      place: the file.
      inputs: arrays by name: float32, int32 or uint8.
    """
    request = {
      "load": os.fspath(place),
      "inputs": {name: _encoded(value) for name, value in inputs.items()},
    }
    return int(self._ask(request)["number"])

  def run(self, number: int) -> float:
    """Calls a network; returns its milliseconds."""
    return float(self._ask({"run": number})["milliseconds"])

  def results(self, number: int) -> dict[str, np.ndarray]:
    """Calls a network; returns its results by name."""
    answer = self._ask({"results": number})["results"]
    return {name: _decoded(value) for name, value in answer.items()}

  def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
    stdin, stdout = self._process.stdin, self._process.stdout
    assert stdin is not None and stdout is not None
    try:
      stdin.write(json.dumps(request) + "\n")
      stdin.flush()
      line = stdout.readline()
    except BrokenPipeError:
      line = ""
    answer: dict[str, Any] = json.loads(line) if line else {}
    if "error" in answer or not answer:
      self._errors.seek(0)
      text = self._errors.read().decode(errors="replace")
      raise RuntimeError(f"{answer.get('error', 'Node ended')}\n{text}")
    return answer


def _encoded(value: np.ndarray) -> dict[str, Any]:
  return {
    "dtype": value.dtype.name,
    "shape": list(value.shape),
    "data": base64.b64encode(np.ascontiguousarray(value).tobytes()).decode(),
  }


def _decoded(value: Mapping[str, Any]) -> np.ndarray:
  content = base64.b64decode(value["data"])
  return np.frombuffer(content, value["dtype"]).reshape(value["shape"])
