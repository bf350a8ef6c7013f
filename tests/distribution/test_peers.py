# SPDX-License-Identifier: Apache-2.0
"""Workers wait for each other before TensorFlow starts."""

import concurrent.futures
import contextlib
import socket

import pytest

from rigl.distribution import peers
from rigl.distribution.cluster import Cluster


def free_addresses(count, host="localhost"):
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for each in sockets:
      each.bind(("", 0))
    return [f"{host}:{each.getsockname()[1]}" for each in sockets]


def port_of(address):
  return int(address.rpartition(":")[2])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("count", [2, 5])
def test_all_workers_meet(count, host):
  """Each one listens at its port afterwards, as TensorFlow does."""
  addresses = free_addresses(count, host)

  def start(own):
    peers.wait_for_peers(addresses, own, 30)
    return socket.create_server(("", port_of(own)))

  with concurrent.futures.ThreadPoolExecutor(count) as pool:
    for listener in list(pool.map(start, addresses)):
      listener.close()


def test_a_worker_that_came_earlier_may_have_left_for_tensorflow():
  own, other = free_addresses(2)
  with socket.create_server(("", port_of(other))):  # As TensorFlow listens.
    peers.wait_for_peers([other, own], own, 30)


def test_a_worker_is_found_until_the_end_of_its_block():
  """A worker that JAX connects may be found late by another one."""
  own, other = free_addresses(2)
  with socket.create_server(("", port_of(other))):
    with peers.found([own, other], own, 30):
      socket.create_connection(("localhost", port_of(own)), 10).close()
      with peers.found([own, other], own, 30):  # Nothing, from now on.
        pass
    with pytest.raises(ConnectionRefusedError):
      socket.create_connection(("localhost", port_of(own)), 10)


def test_a_worker_without_peers_waits_for_none():
  (own,) = free_addresses(1)
  with socket.create_server(("", port_of(own))):
    peers.wait_for_peers([own], own, 0)


def test_the_missing_workers_are_named_at_the_limit():
  own, missing, found = free_addresses(3)
  with (
    socket.create_server(("", port_of(found))),
    pytest.raises(ValueError, match=f"no answer of {missing} within 0"),
  ):
    peers.wait_for_peers([own, missing, found], own, 0)


def test_a_host_without_a_name_is_waited_for():
  (own,) = free_addresses(1)
  for host in ("no-such-host.invalid", "a" * 70 + ".invalid"):
    with pytest.raises(ValueError, match=f"no answer of {host}:1 within 0"):
      peers.wait_for_peers([own, f"{host}:1"], own, 0)


def test_a_port_that_another_process_uses_is_an_error():
  own, other = free_addresses(2)
  with (
    socket.create_server(("", port_of(own))),
    pytest.raises(ValueError, match=f"use the port of {own}: Address already"),
  ):
    peers.wait_for_peers([own, other], own)


def test_a_second_wait_of_a_process_is_none():
  """TensorFlow keeps the port until the process ends."""
  own, other = free_addresses(2)
  with socket.create_server(("", port_of(other))):
    peers.wait_for_peers([own, other], own, 30)
  with socket.create_server(("", port_of(own))):
    peers.wait_for_peers([own, other], own, 0)


def test_a_cluster_knows_its_own_address():
  addresses = {"chief": ["a:1"], "worker": ["b:2", "c:3"]}
  assert Cluster(addresses, "chief", 0).own_address == "a:1"
  assert Cluster(addresses, "worker", 1).own_address == "c:3"
