# SPDX-License-Identifier: Apache-2.0
"""Peers: the other workers of a cluster, and the wait until all have started.

TensorFlow and JAX wait for them within one call, during which Python runs no
handler of a signal. TensorFlow catches SIGTERM, and JAX crashes after five
minutes. This module waits before that call, where a signal ends the process at
once.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Sequence

from rigl import addresses
from rigl.distribution.cluster import TF_CONFIG

# Schedulers may start the workers one after the other.
LIMIT_SECONDS = 3600.0
_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 2.0
# The user is told of a wait that takes longer.
_SILENT_SECONDS = 10.0

# Own addresses whose wait is over: TensorFlow or JAX may keep their ports.
_done: set[str] = set()


def wait_for_peers(
  workers: Sequence[str], own: str, limit: float = LIMIT_SECONDS
) -> None:
  """Waits until every other worker accepts connections at its address.

  This worker listens meanwhile, so that the others find it. All of them leave
  within moments after the last one has started. Each one must then listen at
  its port again, for those that have not found it yet. Further calls in this
  process return at once.

  Args:
    workers: `HOST:PORT` of all workers.
    own: the address of this one.
    limit: the longest wait in seconds.

  Raises:
    ValueError: if workers are missing at the limit, or another process uses
      the port of this one.
  """
  with found(workers, own, limit):
    pass


@contextlib.contextmanager
def found(
  workers: Sequence[str], own: str, limit: float = LIMIT_SECONDS
) -> Iterator[None]:
  """As `wait_for_peers`, and listens until the end of the block.

  Args:
    workers: `HOST:PORT` of all workers.
    own: the address of this one.
    limit: the longest wait in seconds.

  Raises:
    ValueError: as `wait_for_peers`.
  """
  missing = [address for address in workers if address != own]
  if not missing or own in _done:
    yield
    return
  start, is_told = time.monotonic(), False
  with addresses.listen(own, len(workers)):
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
    _done.add(own)
    yield


def _accepts(address: str) -> bool:
  try:
    with socket.create_connection(addresses.split(address), _CONNECT_SECONDS):
      return True
  except (OSError, UnicodeError):  # Also if a name is not known yet.
    return False
