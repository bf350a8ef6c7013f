# SPDX-License-Identifier: Apache-2.0
"""Preemption: requests to stop before the process is killed.

They come as SIGTERM, which schedulers send some seconds before they kill, and
as maintenance notices of Google's virtual machines.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import urllib.request
from collections.abc import Iterator
from types import FrameType

# The code that a shell reports for a process that SIGTERM ended.
EXIT_CODE = 128 + signal.SIGTERM
_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/"
# Values of each entry as long as nothing is planned.
_QUIET = {"maintenance-event": ("NONE",), "preempted": ("FALSE",)}
_POLL_SECONDS, _TIMEOUT_SECONDS = 5.0, 2.0


class PreemptedError(Exception):
  """Training was stopped from outside, after a checkpoint."""


class Notice:
  """A request to stop (SIGTERM or a maintenance event)."""

  def __init__(self) -> None:
    self._wanted = threading.Event()
    self.reason = ""

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


@contextlib.contextmanager
def watching(
  notice: Notice, machine: bool = False, metadata: str = _METADATA
) -> Iterator[None]:
  """Watches for requests to stop; a second SIGTERM ends the process.

  Args:
    notice: gets the request.
    machine: whether to watch the machine's metadata for maintenance as well.
    metadata: address of the metadata of the machine.
  """

  def handle(number: int, frame: FrameType | None) -> None:
    del frame
    notice.give("SIGTERM")
    signal.signal(number, signal.SIG_DFL)

  done = threading.Event()
  if machine:
    threading.Thread(
      target=_watch_machine, args=(notice, done, metadata), daemon=True
    ).start()
  if threading.current_thread() is not threading.main_thread():
    yield  # Only the main thread may handle signals.
    done.set()
    return
  before = signal.signal(signal.SIGTERM, handle)
  try:
    yield
  finally:
    done.set()
    signal.signal(signal.SIGTERM, before)


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
