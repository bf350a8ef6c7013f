# SPDX-License-Identifier: Apache-2.0
"""Several replicas train as one does, and stay equal."""

import json
import os
import pathlib
import socket
import subprocess

import numpy as np
import pytest
import warm_python

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "helpers" / "keras_replicas.py"


def start(names, cluster=None):
  environment = dict(os.environ)
  environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
  environment.pop("TF_CONFIG", None)
  if cluster:
    environment["TF_CONFIG"] = json.dumps(cluster)
  return subprocess.Popen(
    warm_python.command(str(SCRIPT), *names),
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def result(process):
  output, errors = process.communicate(timeout=280)
  assert process.returncode == 0, errors[-2000:]
  return json.loads(output.splitlines()[-1])


def assert_like_one(found, one):
  assert found["equal"]
  assert found["sparse"]
  assert found["masks"] == one["masks"]
  for weights, expected in zip(found["weights"], one["weights"], strict=True):
    np.testing.assert_allclose(weights, expected, atol=1e-4)


@pytest.fixture(scope="module")
def alone():
  """What one replica, or none, ends with."""
  methods = ("rigl", "snfs", "top_kast", "chase", "set")
  return result(start([*(f"{name}:0" for name in methods), "rigl:1"]))


def test_mirrored_replicas_train_as_one(alone):
  found = dict(alone)
  # TensorFlow allows one number of replicas per process.
  for names in (
    ["rigl:2", "snfs:2", "top_kast:2", "chase:2"],
    ["rigl:4"],
  ):
    found |= result(start(names))
  for name, each in found.items():
    method, count = name.split(":")
    assert each["replicas"] == max(int(count), 1)
    assert_like_one(each, found[f"{method}:0"])


def free_ports(count):
  sockets = [socket.socket() for _ in range(count)]
  for each in sockets:
    each.bind(("localhost", 0))
  ports = [each.getsockname()[1] for each in sockets]
  for each in sockets:
    each.close()
  return ports


def test_two_workers_train_as_one(alone):
  workers = [f"localhost:{port}" for port in free_ports(2)]
  processes = [
    start(
      ["rigl", "set"],
      {
        "cluster": {"worker": workers},
        "task": {"type": "worker", "index": index},
      },
    )
    for index in range(2)
  ]
  try:
    found = [result(process) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for method in ("rigl", "set"):
    for worker in found:
      assert worker[method]["replicas"] == 2
      assert_like_one(worker[method], alone[f"{method}:0"])
    assert found[0][method]["weights"] == found[1][method]["weights"]
