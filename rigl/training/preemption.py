# SPDX-License-Identifier: Apache-2.0
"""Preemption: requests to stop before the process is killed.

They come as SIGTERM, which schedulers send some seconds before they kill, as
SIGINT (Ctrl-C), and as maintenance notices of Google's virtual machines.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import urllib.request
from collections.abc import Iterator

from rigl.config import stop_signals

_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/"
# Values of each entry as long as nothing is planned.
_QUIET = {"maintenance-event": ("NONE",), "preempted": ("FALSE",)}
_POLL_SECONDS, _TIMEOUT_SECONDS = 5.0, 2.0


class PreemptedError(Exception):
  """Training was stopped from outside, after a checkpoint."""


class Notice:
  """A request to stop: a signal or a maintenance event.

  Attributes:
    reason: who requests it; empty before.
    exit_code: code of the process that stops for it.
  """

  def __init__(self) -> None:
    self._wanted = threading.Event()
    self.reason = ""
    self.exit_code = stop_signals.exit_code(signal.SIGTERM)

  @property
  def is_given(self) -> bool:
    """True once a stop was requested."""
    return self._wanted.is_set()

  def give(self, reason: str) -> None:
    """Requests a stop.

    Args:
      reason: why, for messages; the first reason counts.
    """
    self.reason = self.reason or reason
    self._wanted.set()

  def give_signal(self, number: int) -> None:
    """Requests a stop because of a signal.

    Args:
      number: the signal.
    """
    if not self.is_given:
      self.exit_code = stop_signals.exit_code(number)
    self.give(stop_signals.name_of(number))


@contextlib.contextmanager
def watching(
  notice: Notice, machine: bool = False, metadata: str = _METADATA
) -> Iterator[None]:
  """Watches for requests to stop; a second signal ends the process.

  Args:
    notice: gets the request.
    machine: whether to watch the machine's metadata for maintenance as well.
    metadata: address of the metadata of the machine.
  """
  done = threading.Event()
  if machine:
    threading.Thread(
      target=_watch_machine, args=(notice, done, metadata), daemon=True
    ).start()
  try:
    with stop_signals.deferred(notice.give_signal):
      yield
  finally:
    done.set()


def _watch_machine(
  notice: Notice, done: threading.Event, metadata: str
) -> None:
  """Polls the metadata until a stop is announced."""
  while not done.is_set() and not notice.is_given:
    for entry, quiet in _QUIET.items():
      try:
        value = _read(metadata + entry)
      except OSError:
        continue  # No such machine, or no answer this time.
      if value not in quiet:
        notice.give(f"{entry} {value}")
    done.wait(_POLL_SECONDS)


def _read(url: str) -> str:
  request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
  with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
    return str(answer.read().decode().strip())
