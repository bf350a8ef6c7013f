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
from collections.abc import Callable, Iterator

from rigl.config import stop_signals
from rigl.training.executor import StoppedError

_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/"
# Values of each entry as long as nothing is planned.
_QUIET = {"maintenance-event": ("NONE",), "preempted": ("FALSE",)}
_POLL_SECONDS, _TIMEOUT_SECONDS = 5.0, 2.0
# How long a call may take that loses nothing when it is broken off.
_PATIENCE_SECONDS = 5.0


class PreemptedError(Exception):
  """Training was stopped from outside, after a checkpoint."""


class Notice:
  """A request to stop: a signal or a maintenance event.

  Attributes:
    reason: who requests it; empty before.
    exit_code: code of the process that stops for it.
  """

  def __init__(self) -> None:
    self._wanted, self._breaks_off = threading.Event(), False
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
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and self._breaks_off:
      self._breaks_off = False
      raise StoppedError

  @contextlib.contextmanager
  def breaking_off(self) -> Iterator[None]:
    """Lets a signal end a block of the main thread with `StoppedError`."""
    self._breaks_off = True
    try:
      yield
    finally:
      self._breaks_off = False


@contextlib.contextmanager
def watching(
  notice: Notice,
  machine: bool = False,
  is_saved: Callable[[], bool] = lambda: False,
  metadata: str = _METADATA,
) -> Iterator[None]:
  """Watches for requests to stop; a second signal ends the process.

  Args:
    notice: gets the request.
    machine: whether to watch the machine's metadata for maintenance as well.
    is_saved: whether ending the process now would lose nothing. If that is so
      some seconds after a signal, as in a long compilation, the process ends.
    metadata: address of the metadata of the machine.
  """
  done = threading.Event()

  def end_if_saved(number: int) -> None:
    if not done.wait(_PATIENCE_SECONDS) and is_saved():
      stop_signals.end_now(number)

  def on_signal(number: int) -> None:
    if not notice.is_given:
      threading.Thread(target=end_if_saved, args=(number,), daemon=True).start()
    notice.give_signal(number)

  if machine:
    threading.Thread(
      target=_watch_machine, args=(notice, done, metadata), daemon=True
    ).start()
  try:
    with stop_signals.deferred(on_signal):
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
