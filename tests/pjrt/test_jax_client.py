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


@pytest.mark.parametrize("platform", ["cuda", "tpu", "nonsense"])
def test_platform_that_is_not_there_is_said_in_one_line(platform):
  program = (
    "from rigl.pjrt.jax_client import Client\n"
    "try:\n  Client()\nexcept ValueError as error:\n  print('said', error)"
  )
  found = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    env={
      **os.environ,
      "JAX_PLATFORMS": platform,
      "CUDA_VISIBLE_DEVICES": "",
      "TPU_SKIP_MDS_QUERY": "1",
    },
  )
  assert found.returncode == 0, found.stderr[-3000:]
  (line,) = found.stdout.splitlines()
  assert line.startswith("said ") and platform in line.casefold()
