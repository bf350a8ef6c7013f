# SPDX-License-Identifier: Apache-2.0
"""Whatever a command waits for, a signal ends it at once in one line."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MNIST = (
  "rigl/mnist/mnist_train_eval.py",
  "--use_synthetic_data",
  "--virtual_devices=1",
)
SECONDS = 120
STOPS = (signal.SIGINT, signal.SIGTERM)
BOTH = pytest.mark.parametrize("number", STOPS, ids=["SIGINT", "SIGTERM"])
INSTALL = "from rigl.config import stop_signals\nstop_signals.install()\n"


def heed_signals():
  """What a process does first: `nohup` may have started these tests."""
  for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def started(*command, **variables):
  """Starts Python with arguments; ends it and its children after the block."""
  process = subprocess.Popen(
    [sys.executable, *command],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    start_new_session=True,
    preexec_fn=heed_signals,
  )
  try:
    yield process
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def assert_ends(process, number):
  """Sends a signal; the process must end with its line alone."""
  process.send_signal(number)
  _, err = process.communicate(timeout=30)
  assert process.returncode == 128 + number
  assert err == f"Stopped by {signal.Signals(number).name}.\n"


def free_port():
  with socket.socket() as one:
    one.bind(("", 0))
    return one.getsockname()[1]


def wait_until_it_listens(port, process):
  """Waits until a process accepts connections."""
  end = time.monotonic() + SECONDS
  while True:
    assert process.poll() is None and time.monotonic() < end
    with contextlib.suppress(OSError):
      socket.create_connection(("localhost", port), 1).close()
      return
    time.sleep(0.02)


def config_of_two(port, kind="worker"):
  """TF_CONFIG of the first of two workers; there is no second one."""
  workers = [f"localhost:{port}", f"localhost:{free_port()}"]
  task = {"type": kind, "index": 0}
  return json.dumps({"cluster": {"worker": workers}, "task": task})


@BOTH
def test_a_worker_that_waits_for_another_ends(number):
  port = free_port()
  code = INSTALL + (
    "from rigl.distribution import cluster, peers\n"
    "found = cluster.read()\n"
    "peers.wait_for_peers(found.workers, found.own_address)\n"
  )
  with started("-c", code, TF_CONFIG=config_of_two(port)) as process:
    wait_until_it_listens(port, process)
    assert_ends(process, number)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["loop", "jax"])
def test_a_training_that_waits_for_another_worker_ends(tmp_path, runner):
  port = free_port()
  flags = ["--strategy=multi_worker", f"--save_path={tmp_path / 'run'}"]
  if runner == "jax":
    pytest.importorskip("jax")
    flags += ["--runner=jax", "--compilation_cache=none"]
  with started(*MNIST, *flags, TF_CONFIG=config_of_two(port)) as process:
    wait_until_it_listens(port, process)
    assert_ends(process, signal.SIGTERM)
  assert not (tmp_path / "run").exists()


CONNECTING = """
from rigl.pjrt import initialization, jax_client
initialization.split_cpu(1)
initialization.initialize_hosts("localhost:{port}", 2, {host})
print("connected", flush=True)
"""


def test_a_worker_of_jax_ends_while_another_does_not_start_its_devices():
  pytest.importorskip("jax")
  port = free_port()
  first = INSTALL + CONNECTING.format(port=port, host=0) + "jax_client.Client()"
  second = CONNECTING.format(port=port, host=1) + "import time; time.sleep(600)"
  with started("-c", first) as process, started("-c", second):
    assert process.stdout.readline() == "connected\n"
    assert_ends(process, signal.SIGTERM)


@pytest.mark.slow
def test_an_evaluator_that_waits_for_a_checkpoint_ends(tmp_path):
  flags = ("--num_epochs=1", f"--save_path={tmp_path / 'run'}")
  config = config_of_two(free_port(), "evaluator")
  with started(*MNIST, *flags, TF_CONFIG=config) as process:
    for line in process.stdout:
      if line.startswith("Waiting for a checkpoint"):
        break
    assert_ends(process, signal.SIGTERM)


@pytest.mark.parametrize("number", [*STOPS, signal.SIGHUP])
def test_a_download_that_gets_no_answer_ends_and_leaves_nothing(
  tmp_path, number
):
  script = "scripts/eval_checkpoint.py"
  with socket.create_server(("localhost", 0)) as server:
    url = f"http://localhost:{server.getsockname()[1]}/weights.tar.gz"
    with started(script, url, "synthetic", OUT=str(tmp_path)) as process:
      connection, _ = server.accept()
      with connection:
        assert process.stderr.readline() == f"Fetching {url} ...\n"
        assert_ends(process, number)
  assert list(tmp_path.iterdir()) == []


DEAF = """
import signal, time
for number in (signal.SIGINT, signal.SIGTERM):
  signal.signal(number, lambda number, _: print("heard", flush=True))
print("ready", flush=True)
while True: time.sleep(60)
"""


def test_a_second_signal_kills_workers_that_do_not_end():
  command = ("scripts/run_workers.py", "--workers=1", "--")
  with started(*command, sys.executable, "-c", DEAF) as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "heard\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL
