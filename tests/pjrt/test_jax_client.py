# SPDX-License-Identifier: Apache-2.0
"""The client of JAX on several devices, with the private names that it uses."""

import os
import pathlib
import subprocess
import sys

import pytest

from rigl.pjrt import jax_client

pytest.importorskip("jax")
_PROGRAM = (
  pathlib.Path(__file__).parents[1] / "helpers" / "jax_client_program.py"
)


def test_replicas_add_up_and_states_are_given_up(tmp_path):
  folder = pathlib.Path(jax_client.__file__).parent
  found = subprocess.run(
    [sys.executable, str(_PROGRAM), str(tmp_path)],
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHONPATH": str(folder)},
  )
  assert found.returncode == 0, found.stderr[-3000:]
  refused, passed = found.stdout.splitlines()
  assert refused.startswith("refused: ")
  assert passed.startswith("passed with JAX ")
