# SPDX-License-Identifier: Apache-2.0
"""Addresses `HOST:PORT` of processes, and ports of this machine."""

from __future__ import annotations

import os
import socket


def split(address: str) -> tuple[str, int]:
  """Splits an address into its host and its port.

  Args:
    address: `HOST:PORT`. The brackets of an IPv6 host are left out.

  Returns:
    The host and the port.

  Raises:
    ValueError: if the host is empty, or the port is no number in [0, 65535].
  """
  host, _, port = address.rpartition(":")
  if not host or not port.isdecimal() or int(port) >= 2**16:
    raise ValueError(
      f"an address must be HOST:PORT with a port in [0, 65535], got {address!r}"
    )
  return host.strip("[]"), int(port)


def listen(address: str, backlog: int = 1) -> socket.socket:
  """Lets the kernel accept connections at the port of an address.

  Args:
    address: `HOST:PORT`, of which the port counts: the socket listens on all
      networks of this machine.
    backlog: how many connections may wait.

  Returns:
    The socket. Closing it frees the port.

  Raises:
    ValueError: if the address is wrong, or the port is not free.
  """
  is_dual = socket.has_dualstack_ipv6()
  try:
    return socket.create_server(
      ("", split(address)[1]),
      family=socket.AF_INET6 if is_dual else socket.AF_INET,
      backlog=backlog,
      dualstack_ipv6=is_dual,
    )
  except OSError as error:
    raise ValueError(
      f"This process cannot use the port of {address}: "
      f"{os.strerror(error.errno or 0)}."
    ) from error
