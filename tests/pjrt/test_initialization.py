# SPDX-License-Identifier: Apache-2.0
"""What happens before JAX's client: other processes, and devices of a CPU."""

import os
import socket
import subprocess
import sys

import pytest

pytest.importorskip("jax")

from rigl.pjrt import initialization  # noqa: E402

START = "from rigl.pjrt import initialization, jax_client\n"
SPLIT = """
import jax
initialization.split_cpu(3)
print(jax.local_device_count())
initialization.split_cpu(3)
try:
  initialization.split_cpu(2)
except ValueError as error:
  print(error)
"""
MEET = """
import sys
import numpy as np
address, host = sys.argv[1], int(sys.argv[2])
initialization.split_cpu(1)
initialization.initialize_hosts(address, 2, host)
initialization.initialize_hosts("localhost:1", 9, 8)  # Nothing, from now on.
client = jax_client.Client()
print(client.num_hosts, client.host, client.num_replicas, client.num_local)
print(client.all_gather(np.int32(5 + host)).tolist())
"""
FAIL = """
try:
  initialization.initialize_hosts({arguments})
except ValueError as error:
  print(error)
"""


def started(code, *arguments):
  return subprocess.Popen(
    [sys.executable, "-c", START + code, *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )


def printed(process):
  output, errors = process.communicate()
  assert process.returncode == 0, errors[-3000:]
  return output.splitlines()


def test_devices_of_a_cpu_are_made_before_jax_starts_only():
  number, refused = printed(started(SPLIT))
  assert number == "3"
  assert refused == "`virtual_devices` must be set before JAX starts, got 2."


def test_processes_find_each_other_and_stay_together():
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  processes = [started(MEET, address, str(host)) for host in range(2)]
  for host, process in enumerate(processes):
    lines = printed(process)
    assert f"2 {host} 2 1" in lines
    assert "[5, 6]" in lines


def test_processes_that_cannot_be_found_are_said_in_one_line():
  (line,) = printed(started(FAIL.format(arguments="")))
  assert line.startswith("The workers do not find each other without TF_CONFIG")


def test_an_address_without_a_port_is_an_error_before_jax_starts():
  for host in range(2):
    with pytest.raises(ValueError, match="must be HOST:PORT.* 'localhost:1x'"):
      initialization.initialize_hosts("localhost:1x", 2, host)


def test_the_first_process_needs_a_free_port_before_jax_starts():
  with socket.create_server(("", 0)) as taken:
    address = f"localhost:{taken.getsockname()[1]}"
    with pytest.raises(ValueError, match=f"use the port of {address}: Address"):
      initialization.initialize_hosts(address, 2, 0)
