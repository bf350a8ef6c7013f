# SPDX-License-Identifier: Apache-2.0
"""Peers: the other workers of a cluster, and the wait until all have started.

TensorFlow waits for them within one call, during which Python runs no handler
of a signal and TensorFlow catches SIGTERM. This module waits before that call,
where a signal ends the process at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence

from rigl.distribution.cluster import TF_CONFIG

# TensorFlow waits as long.
_LIMIT_SECONDS = 3600.0
_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 2.0
# The user is told of a wait that takes longer.
_SILENT_SECONDS = 10.0


def wait_for_peers(
  workers: Sequence[str], own: str, limit: float = _LIMIT_SECONDS
) -> None:
  """Waits until every other worker accepts connections at its address.

  This worker listens meanwhile, so that the others find it. All of them leave
  within moments after the last one has started.

  Args:
    workers: `HOST:PORT` of all workers.
    own: the address of this one.
    limit: the longest wait in seconds.

  Raises:
    ValueError: if workers are missing at the limit, or another process uses
      the port of this one.
  """
  missing = [address for address in workers if address != own]
  if not missing:
    return
  start, is_told = time.monotonic(), False
  with _listening(own, len(workers)):
    while missing := [a for a in missing if not _accepts(a)]:
      waited = time.monotonic() - start
      if waited > limit:
        raise ValueError(
          f"The workers of {TF_CONFIG} do not find each other: no answer of "
          f"{', '.join(missing)} within {limit:.0f} seconds."
        )
      if waited > _SILENT_SECONDS and not is_told:
        is_told = True
        logging.warning("Waiting for the workers %s.", ", ".join(missing))
      time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _listening(own: str, backlog: int) -> Iterator[None]:
  """Lets the kernel accept connections at the port of this worker."""
  is_dual = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if is_dual else socket.AF_INET
  try:
    listener = socket.create_server(
      ("", _host_and_port(own)[1]),
      family=family,
      backlog=backlog,
      dualstack_ipv6=is_dual,
    )
  except OSError as error:
    raise ValueError(
      f"This worker of {TF_CONFIG} cannot use the port of {own}: "
      f"{os.strerror(error.errno or 0)}."
    ) from error
  with listener:
    yield


def _accepts(address: str) -> bool:
  try:
    with socket.create_connection(_host_and_port(address), _CONNECT_SECONDS):
      return True
  except (OSError, UnicodeError):  # Also if a name is not known yet.
    return False


def _host_and_port(address: str) -> tuple[str, int]:
  host, _, port = address.rpartition(":")
  return host.strip("[]"), int(port)
