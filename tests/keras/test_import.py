# SPDX-License-Identifier: Apache-2.0
"""`import rigl.keras` says in one sentence what it needs."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FAKE = """
import sys, types
keras = types.ModuleType("keras")
keras.__version__ = {version!r}
keras.backend = types.SimpleNamespace(backend=lambda: {backend!r})
sys.modules["keras"] = keras
import rigl
rigl.keras
"""


@pytest.mark.parametrize(
  ("version", "backend", "message"),
  [
    ("2.15.0", "tensorflow", "rigl.keras needs Keras 3, but Keras 2.15.0"),
    ("3.15.1", "jax", "rigl.keras needs the TensorFlow backend of Keras"),
    ("3.3.0", "torch", "rigl.keras needs the TensorFlow backend of Keras"),
  ],
)
def test_other_versions_and_backends_are_refused(version, backend, message):
  done = subprocess.run(
    [sys.executable, "-c", FAKE.format(version=version, backend=backend)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  last = done.stderr.strip().splitlines()[-1]
  assert last.startswith(f"rigl.missing_package.MissingPackageError: {message}")
  assert done.stderr.count("Traceback") == 1
