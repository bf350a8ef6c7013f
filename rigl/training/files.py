# SPDX-License-Identifier: Apache-2.0
"""Atomic files: a reader sees the old content or the new one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator

Path = str | os.PathLike

# The temporary names of `replacing` and of checkpoints.
_TEMPORARY = re.compile(r"\.tmp\d+(\..*)?$")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[pathlib.Path]:
  """Gives a temporary path that replaces `path` at the end of the block.

  Args:
    path: the file to write or replace. It keeps its old content until the end
      of the block, and if the block raises. Then it is whole and on the disk.

  Yields:
    A path in the same directory, to be written.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
  try:
    yield temporary
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
  """Writes a text file whole or not at all.

  Args:
    path: the file.
    text: its content.
  """
  with replacing(path) as temporary:
    temporary.write_text(text, encoding="utf-8")


def remove_temporaries(directory: Path) -> None:
  """Removes temporary files that killed processes left in a directory.

  Args:
    directory: the directory.
  """
  for path in pathlib.Path(directory).iterdir():
    if _TEMPORARY.search(path.name) and path.is_file():
      path.unlink(missing_ok=True)


def sync(path: Path) -> None:
  """Waits until a file or directory is on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
