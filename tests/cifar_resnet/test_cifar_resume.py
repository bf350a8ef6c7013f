# SPDX-License-Identifier: Apache-2.0
"""Processes of the CIFAR-10 script that are killed at a random moment."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from cifar_runs import SCRIPT, SHORT, only_run
from script_runs import assert_same_results, metrics

NUM_STEPS = 60
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}


def command(path):
  return [
    sys.executable,
    str(SCRIPT),
    *SHORT,
    f"--max_steps={NUM_STEPS}",
    "--training_method=rigl",
    "--mode=train_and_eval",
    # Nothing to compile in each of the processes.
    "--jit_compile=false",
    f"--train_dir={path}",
  ]


def num_rows(path):
  files = list(path.rglob("metrics.csv"))
  return files[0].read_text().count("\n") if files else 0


@pytest.mark.slow
@pytest.mark.long
def test_process_killed_at_a_random_moment_ends_with_the_same_bits(tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  subprocess.run(
    command(whole), check=True, capture_output=True, env=ENVIRONMENT
  )
  generator = random.Random(4)
  process = subprocess.Popen(
    command(killed),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    env=ENVIRONMENT,
  )
  while process.poll() is None and num_rows(killed) < 5:
    time.sleep(0.005)
  time.sleep(generator.uniform(0, 0.3))
  os.kill(process.pid, signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  found = subprocess.run(
    command(killed), check=True, capture_output=True, text=True, env=ENVIRONMENT
  )
  assert "Resumed at step" in found.stdout
  assert_same_results(only_run(killed), only_run(whole))
  assert int(metrics(only_run(killed))[-1]["step"]) == NUM_STEPS
  names = [
    {path.name for path in only_run(place).iterdir()}
    for place in (killed, whole)
  ]
  assert names[0] == names[1]
