# SPDX-License-Identifier: Apache-2.0
"""The script that this process runs."""

from __future__ import annotations

import pathlib
import sys


def is_of_rigl() -> bool:
  """Whether this process runs a file of this package or of `scripts/`."""
  file = getattr(sys.modules.get("__main__"), "__file__", None)
  if file is None:
    return False
  package = pathlib.Path(__file__).resolve().parent
  places = (package, package.parent / "scripts")
  return any(place in pathlib.Path(file).resolve().parents for place in places)
