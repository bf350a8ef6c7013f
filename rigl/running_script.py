# SPDX-License-Identifier: Apache-2.0
"""The script that this process runs."""

from __future__ import annotations

import pathlib
import sys

_PACKAGE = pathlib.Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent


def is_of_rigl() -> bool:
  """Whether this process runs a file of this package or of `scripts/`."""
  return _is_in(_PACKAGE, _CHECKOUT / "scripts")


def is_benchmark() -> bool:
  """Whether this process runs a file of `benchmarks/`."""
  return _is_in(_CHECKOUT / "benchmarks")


def _is_in(*folders: pathlib.Path) -> bool:
  file = getattr(sys.modules.get("__main__"), "__file__", None)
  if file is None:
    return False
  parents = pathlib.Path(file).resolve().parents
  return any(folder in parents for folder in folders)
