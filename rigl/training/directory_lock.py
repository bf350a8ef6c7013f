# SPDX-License-Identifier: Apache-2.0
"""Directory lock: keeps two processes from training in one directory."""

from __future__ import annotations

import logging
from typing import IO

from rigl import files
from rigl.url_path import UrlPath

try:
  import fcntl
except ImportError:  # Windows has no such locks.
  fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"


def take(directory: files.Path) -> IO[str] | None:
  """Locks a directory as long as this process lives or the file is open.

  Args:
    directory: the directory, which exists.

  Returns:
    The open file that holds the lock; None in a bucket or on a system without
    such locks, where the user has to see to it that one process trains.

  Raises:
    ValueError: if another process holds the lock.
  """
  place = files.path(directory)
  if isinstance(place, UrlPath):
    logging.info("`%s` cannot be locked: use one process.", place)
    return None
  if fcntl is None:
    logging.warning(
      "`%s`: this system has no file locks; train in it with one process.",
      place,
    )
    return None
  lock = open(place / LOCK_FILE, "a")  # noqa: SIM115 - held until exit.
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    lock.close()
    raise ValueError(
      f"`{place}`: another process is training in this directory."
    ) from error
  except OSError as error:  # Some network file systems have no locks.
    logging.warning("`%s` cannot be locked: %s.", place, error)
  return lock
