# SPDX-License-Identifier: Apache-2.0
"""Workers that die: the cluster starts again from the last checkpoint."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
import runs_of_replicas

from rigl.training import checkpoints

# Several processes each.
pytestmark = pytest.mark.slow

FLAGS = (
  "--use_synthetic_data",
  "--training_method=rigl",
  "--maskupdate_frequency=7",
  "--num_epochs=20",
  "--checkpoint_epochs=1",
  "--strategy=multi_worker",
  "--jit_compile=false",  # A compilation in every process takes long.
)
SECONDS = 300


def command(place, restarts=2):
  flags = (*FLAGS, f"--save_path={place / 'run'}")
  single = runs_of_replicas.command("mnist", place / "states", flags)
  return runs_of_replicas.workers_command(2, restarts, single)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  place = tmp_path_factory.mktemp("undisturbed")
  runs_of_replicas.run(command(place))
  return runs_of_replicas.states(place / "states", place / "run")


def children(pid):
  """The processes that one started, in that order."""
  path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
  return [int(child) for child in path.read_text().split()]


def wait_until(condition, process):
  end = time.monotonic() + SECONDS
  while not condition():
    assert process.poll() is None and time.monotonic() < end
    time.sleep(0.02)


def test_a_cluster_that_lost_its_chief_finishes_with_the_same_bits(
  tmp_path, undisturbed
):
  place = tmp_path / "run"
  environment = {**os.environ, "PYTHONPATH": str(runs_of_replicas.ROOT)}
  process = subprocess.Popen(
    command(tmp_path), stdout=subprocess.PIPE, text=True, env=environment
  )
  wait_until(lambda: len(checkpoints.list_numbers(place)) > 1, process)
  os.kill(children(process.pid)[0], signal.SIGKILL)
  out, _ = process.communicate(timeout=SECONDS)
  assert process.returncode == 0
  assert "all start again" in out
  assert "Resumed at iteration" in out
  found = runs_of_replicas.states(tmp_path / "states", place)
  assert len(found.replicas) == 2
  runs_of_replicas.assert_same_replicas(found)
  for name, value in undisturbed.replicas[0].items():
    np.testing.assert_array_equal(found.replicas[0][name], value, name)


def test_sigterm_stops_and_saves_all_workers(tmp_path, undisturbed):
  place = tmp_path / "run"
  environment = {**os.environ, "PYTHONPATH": str(runs_of_replicas.ROOT)}
  process = subprocess.Popen(
    command(tmp_path), stdout=subprocess.PIPE, text=True, env=environment
  )
  wait_until(lambda: len(checkpoints.list_numbers(place)) > 1, process)
  process.send_signal(signal.SIGTERM)
  out, _ = process.communicate(timeout=SECONDS)
  assert process.returncode == 128 + signal.SIGTERM
  assert "Stopped at iteration" in out
  runs_of_replicas.run(command(tmp_path))
  found = runs_of_replicas.states(tmp_path / "states", place)
  for name, value in undisturbed.replicas[0].items():
    np.testing.assert_array_equal(found.replicas[0][name], value, name)


def test_only_the_chief_writes(undisturbed):
  names = {path.name for path in undisturbed.directory.iterdir()}
  assert {"metrics.csv", "result.json", "run.json"} <= names
  lines = (undisturbed.directory / "metrics.csv").read_text().splitlines()
  assert len(lines) == 1 + 20  # A row an epoch, once.


def test_too_many_deaths_are_an_error():
  code = "import sys; sys.exit(3)"
  whole = runs_of_replicas.workers_command(2, 1, ["python3", "-c", code])
  done = subprocess.run(whole, capture_output=True, text=True)
  assert done.returncode == 3
  assert done.stdout.count("all start again") == 1


@pytest.mark.long
def test_a_worker_of_jax_that_lost_the_other_ends_at_once(tmp_path):
  pytest.importorskip("jax")
  with socket.socket() as one, socket.socket() as two:
    for each in (one, two):
      each.bind(("localhost", 0))
    addresses = [f"localhost:{s.getsockname()[1]}" for s in (one, two)]
  flags = (*FLAGS, "--runner=jax", "--virtual_devices=1", "--num_epochs=9999")
  flags += ("--compilation_cache=none", f"--save_path={tmp_path / 'run'}")
  processes = []
  for index in (0, 1):
    task = {"type": "worker", "index": index}
    config = {"cluster": {"worker": addresses}, "task": task}
    environment = {
      **os.environ,
      "PYTHONPATH": str(runs_of_replicas.ROOT),
      "TF_CONFIG": json.dumps(config),
    }
    single = runs_of_replicas.command("mnist", tmp_path / "states", flags)
    processes.append(
      subprocess.Popen(
        single, stderr=subprocess.PIPE, text=True, env=environment
      )
    )
  first, second = processes
  wait_until(lambda: checkpoints.list_numbers(tmp_path / "run"), first)
  second.kill()
  _, err = first.communicate(timeout=SECONDS)
  second.communicate()
  assert first.returncode == 1
  assert err.splitlines()[-1].startswith("error: another worker was lost")
  assert "Traceback" not in err
