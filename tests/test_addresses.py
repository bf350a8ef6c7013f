# SPDX-License-Identifier: Apache-2.0
"""Addresses are read, and ports are taken, as sockets do."""

import socket

import pytest

from rigl import addresses


@pytest.mark.parametrize(
  "address, parts",
  [
    ("host:8470", ("host", 8470)),
    ("10.0.0.1:0", ("10.0.0.1", 0)),
    ("[::1]:65535", ("::1", 65535)),
  ],
)
def test_addresses_are_hosts_and_ports(address, parts):
  assert addresses.split(address) == parts


@pytest.mark.parametrize(
  "address", ["", "host", ":80", "host:", "host:1x", "host:-1", "host:65536"]
)
def test_other_addresses_are_errors(address):
  for function in (addresses.split, addresses.listen):
    with pytest.raises(ValueError, match=f"HOST:PORT .*, got {address!r}"):
      function(address)


def test_a_port_is_taken_until_the_socket_closes():
  with addresses.listen("anywhere:0") as listener:
    port = listener.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
      socket.create_connection((host, port), 10).close()
    with pytest.raises(ValueError, match=f"port of here:{port}: Address alrea"):
      addresses.listen(f"here:{port}")
  addresses.listen(f"here:{port}").close()
