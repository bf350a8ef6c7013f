# SPDX-License-Identifier: Apache-2.0
"""Output whose reader has ended: it is discarded, and the process continues.

A closed terminal and a program behind a pipe that ended (`| head`) would
otherwise end a training between two checkpoints.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

# The errors of a pipe without a reader, and of a terminal that is gone.
_GONE = (errno.EPIPE, errno.EIO)


class LastingStream:
  """A text stream whose lost reader is no error.

  Other errors, such as a full disk, are raised once.

  Args:
    stream: the stream; after an error its file is the null device.
  """

  def __init__(self, stream: Any) -> None:
    self._stream = stream

  def write(self, text: str) -> int:
    """Writes a text, or drops it."""
    self._try(lambda: self._stream.write(text))
    return len(text)

  def flush(self) -> None:
    """Writes what is buffered, or drops it."""
    self._try(self._stream.flush)

  def _try(self, write: Callable[[], Any]) -> None:
    try:
      write()
    except OSError as error:
      # So that no later write fails, by whatever code.
      null = os.open(os.devnull, os.O_WRONLY)
      os.dup2(null, self._stream.fileno())
      os.close(null)
      if error.errno not in _GONE:
        raise

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


@contextlib.contextmanager
def lasting() -> Iterator[None]:
  """Makes the standard output and error such streams within a block."""
  before = sys.stdout, sys.stderr
  wrapped: list[Any] = [s and LastingStream(s) for s in before]
  sys.stdout, sys.stderr = wrapped
  try:
    yield
  finally:
    flush()
    sys.stdout, sys.stderr = before


def flush() -> None:
  """Writes what the standard output holds, unless it is closed.

  Raises:
    OSError: if it cannot be written, and its reader is still there.
  """
  with contextlib.suppress(AttributeError, ValueError):
    sys.stdout.flush()
