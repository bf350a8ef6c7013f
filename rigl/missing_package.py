# SPDX-License-Identifier: Apache-2.0
"""Missing packages: one line that says what to install, instead of a traceback.

Scripts and benchmarks print that line also for what they import at their start.
"""

from __future__ import annotations

import sys
from types import TracebackType

from rigl import running_script

# The extra that brings a package; empty: rigl itself needs it.
_EXTRAS = {
  "PIL": "",
  "absl": "",
  "ai_edge_litert": "litert",
  "gin": "",
  "h5py": "cpu",
  "jax": "jax",
  "jaxlib": "jax",
  "keras": "cpu",
  "libtpu": "tpu-check",
  "matplotlib": "",
  "numba": "sparse",
  "numpy": "",
  "onnx": "onnx",
  "onnxruntime": "onnx",
  "tensorflow": "cpu",
  "tensorflow_datasets": "",
  "tf2onnx": "onnx",
  "tqdm": "",
}


class MissingPackageError(ImportError):
  """A package is missing or too old; the text says what to install."""


def describe(error: BaseException) -> str | None:
  """One line that says what to install; None for any other error."""
  if isinstance(error, MissingPackageError):
    return str(error)
  if not isinstance(error, ModuleNotFoundError) or error.name not in _EXTRAS:
    return None
  extra = _EXTRAS[error.name]
  wanted = f"'rigl[{extra}]'" if extra else "rigl"
  return f"{error.name} is not installed: pip install {wanted}"


def _print_line(
  kind: type[BaseException],
  error: BaseException,
  traceback: TracebackType | None,
) -> None:
  line = describe(error)
  if line is None:
    sys.__excepthook__(kind, error, traceback)
  else:
    print(f"error: {line}", file=sys.stderr)


if running_script.is_of_rigl() or running_script.is_benchmark():
  sys.excepthook = _print_line
