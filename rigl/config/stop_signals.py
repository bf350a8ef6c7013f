# SPDX-License-Identifier: Apache-2.0
"""Stop signals: SIGINT (Ctrl-C), SIGTERM and SIGHUP end a process in one line.

Python runs its handlers of signals between two instructions of its main thread,
so a call into TensorFlow that takes a minute delays them by a minute. A thread
of this module learns of a signal at once. By default it ends the process. While
a run trains, the first signal only requests a stop, and a second one ends the
process. SIGHUP comes when a terminal or an SSH connection ends, often twice; a
process that `nohup` started ignores it. Batch systems warn by SIGUSR1, SIGUSR2
or SIGXCPU, perhaps again and again, before they end a process by SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from rigl import running_script


def _existing(*names: str) -> tuple[int, ...]:
  """The numbers of signals that the system has and this process heeds."""
  found = [getattr(signal, name, None) for name in names]
  return tuple(n for n in found if n and signal.getsignal(n) == signal.SIG_DFL)


_HANGUP = _existing("SIGHUP")
_WARNINGS = _existing("SIGUSR1", "SIGUSR2", "SIGXCPU")
NUMBERS = (signal.SIGINT, signal.SIGTERM, *_HANGUP, *_WARNINGS)
# Signals within this time of the first are the same request: the command
# `timeout`, for one, sends each signal twice.
_SAME_SECONDS = 0.3

_ending = threading.Lock()


def name_of(number: int) -> str:
  """The name of a signal, such as `SIGTERM`."""
  return signal.Signals(number).name


def exit_code(number: int) -> int:
  """The code that a shell reports for a process that a signal ended."""
  return 128 + number


def end_now(number: int, message: str = "") -> None:
  """Prints a line and ends the process, whatever it is doing.

  Args:
    number: the signal.
    message: the line. Empty: one that names the signal.
  """
  if not _ending.acquire(blocking=False):
    return  # The other thread is just doing it.
  line = (message or f"Stopped by {name_of(number)}.") + "\n"
  with contextlib.suppress(OSError):
    os.write(2, line.encode())
  os._exit(exit_code(number))


class _Watcher:
  """Learns of stop signals, in the main thread and in one of its own.

  Attributes:
    on_first: gets the number of the first signal; by default it ends the
      process. It may be called twice, by both threads.
  """

  def __init__(self) -> None:
    self.on_first: Callable[[int], None] = end_now
    self._is_noted = False
    self._reading, self._writing = socket.socketpair()
    self._writing.setblocking(False)
    self._before = {n: signal.signal(n, self._handle) for n in NUMBERS}
    self._fd_before = signal.set_wakeup_fd(
      self._writing.fileno(), warn_on_full_buffer=False
    )
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()

  def take_back(self) -> None:
    """Sets the handlers again."""
    for number in NUMBERS:
      signal.signal(number, self._handle)

  def close(self) -> None:
    """Restores the handlers of before."""
    signal.set_wakeup_fd(self._fd_before)
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._writing.close()
    self._thread.join()
    self._reading.close()

  def _handle(self, number: int, frame: FrameType | None) -> None:
    del frame
    self._is_noted = True
    self.on_first(number)

  def _watch(self) -> None:
    """Reads the signal numbers that Python's C code writes."""
    is_asked, first_at = False, None
    while numbers := self._reading.recv(64):
      for number in numbers:
        if number not in NUMBERS:
          continue
        if not is_asked and not self._is_noted:
          self.on_first(number)
        is_asked = True
        if number in _WARNINGS:
          continue  # The signal that it warns of is no second one.
        now = time.monotonic()
        if first_at is None:
          first_at = now
        elif number not in _HANGUP and now > first_at + _SAME_SECONDS:
          end_now(number)


_watcher: _Watcher | None = None


def install() -> None:
  """Makes signals end this process in one line, from now on."""
  global _watcher
  if _watcher is None and _is_main_thread():
    _watcher = _Watcher()


@contextlib.contextmanager
def installed() -> Iterator[None]:
  """Makes signals end this process in one line within a block."""
  global _watcher
  is_new = _watcher is None
  install()
  try:
    yield
  finally:
    if is_new and _watcher is not None:
      _watcher.close()
      _watcher = None


def take_back() -> None:
  """Sets the handlers again where other code may have set its own.

  TensorFlow does so in C++ when several workers connect.
  """
  if _watcher is not None and _is_main_thread():
    _watcher.take_back()


@contextlib.contextmanager
def undelayed() -> Iterator[None]:
  """Lets signals end this process themselves in a block, without a line.

  It is for calls into C++ that let no thread of Python run for long.
  """
  if not _is_main_thread():
    yield
    return
  before = {number: signal.getsignal(number) for number in NUMBERS}
  for number in NUMBERS:
    signal.signal(number, signal.SIG_DFL)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


@contextlib.contextmanager
def deferred(on_first: Callable[[int], None]) -> Iterator[None]:
  """Lets a block end by itself after the first signal.

  In a thread that is not the main one it does nothing, because only that may
  handle signals.

  Args:
    on_first: gets the number of the first signal, perhaps twice and in any
      thread, and returns at once.
  """
  if not _is_main_thread():
    yield
    return
  with installed():
    assert _watcher is not None
    _watcher.take_back()
    before, _watcher.on_first = _watcher.on_first, on_first
    try:
      yield
    finally:
      _watcher.on_first = before


@contextlib.contextmanager
def blocked() -> Iterator[None]:
  """Keeps stop signals waiting in a block that forks; not on Windows."""
  before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_in_child() -> None:
  """Leaves stop signals to the parent; called in a forked process."""
  signal.set_wakeup_fd(-1)
  for number in NUMBERS:
    signal.signal(number, signal.SIG_IGN)


def _is_main_thread() -> bool:
  return threading.current_thread() is threading.main_thread()


# The import of TensorFlow, which takes seconds, ends in one line as well.
if running_script.is_of_rigl():
  install()
