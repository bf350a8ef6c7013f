# SPDX-License-Identifier: Apache-2.0
"""An environment in which shell scripts use this interpreter."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path):
  """Variables that make run.sh take this interpreter and install nothing."""
  requirements = "requirements.txt"
  place = tmp_path / "environment"
  (place / "bin").mkdir(parents=True)
  python = place / "bin" / "python"
  python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
  python.chmod(0o755)
  (place / ".installed").write_text(
    (ROOT / requirements).read_text() + (ROOT / "pyproject.toml").read_text()
  )
  return {
    **os.environ,
    "RIGL_ENV": str(place),
    "RIGL_REQUIREMENTS": requirements,
  }
