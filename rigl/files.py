# SPDX-License-Identifier: Apache-2.0
"""Files on disks and in buckets, written atomically.

A reader sees the old content or the new one. Paths such as `gs://bucket/run`
are read and written by TensorFlow, all others by Python.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import TypeAlias

from rigl.url_path import UrlPath, has_scheme

Path = str | os.PathLike
AnyPath: TypeAlias = pathlib.Path | UrlPath

# The temporary names of `replacing` and of checkpoints.
_TEMPORARY = re.compile(r"\.tmp\d+(\..*)?$")
_FILE_SCHEME = "file://"


def path(place: Path, name: str = "") -> AnyPath:
  """The path object of a file or directory.

  Args:
    place: a path on a disk, also as `file:///PATH`; or a URL of a scheme that
      TensorFlow knows, such as `gs://bucket/run`.
    name: the flag that it comes from, for errors.

  Returns:
    A `pathlib.Path`, or a `UrlPath` with the same methods.

  Raises:
    ValueError: if TensorFlow knows no such scheme, slashes are missing, or the
      name is not in UTF-8.
  """
  text = os.fspath(place)
  try:
    text.encode()
  except UnicodeEncodeError:
    raise ValueError(
      f"`{name or 'path'}` must be a name in UTF-8, as TensorFlow takes it, "
      f"got {os.fsencode(text)!r}."
    ) from None
  if text.startswith(_FILE_SCHEME):
    return pathlib.Path(text.removeprefix(_FILE_SCHEME))
  if not has_scheme(text):
    return pathlib.Path(text)
  try:
    return UrlPath(text)
  except ValueError as error:
    raise ValueError(f"`{name}`: {error}" if name else str(error)) from error


@contextlib.contextmanager
def replacing(place: Path) -> Iterator[AnyPath]:
  """Gives a temporary path that replaces a file at the end of the block.

  Args:
    place: the file to write or replace. It keeps its old content until the end
      of the block, and if the block raises. Then it is whole and on the disk.

  Yields:
    A path in the same directory, to be written.
  """
  target = path(place)
  temporary = target.with_name(f"{target.name}.tmp{os.getpid()}")
  try:
    yield temporary
    move(temporary, target)
    sync(target.parent)
  finally:
    temporary.unlink(missing_ok=True)


def matching(pattern: str) -> list[AnyPath]:
  """The files that a pattern selects, sorted.

  Args:
    pattern: such as `images/*.png`; in buckets only names have patterns.

  Returns:
    The files; the pattern itself if there are none or a file has this name.
  """
  place = path(pattern)
  if isinstance(place, UrlPath):
    found: list[AnyPath] = [*sorted(place.parent.glob(place.name))]
  elif place.exists():
    found = []
  else:
    found = [pathlib.Path(name) for name in sorted(glob.glob(str(place)))]
  return found or [place]


def on_disk(place: Path, name: str) -> pathlib.Path:
  """The path of what only Python writes.

  Args:
    place: the path.
    name: the argument that it comes from, for errors.

  Raises:
    ValueError: if it is in a bucket.
  """
  found = path(place, name)
  if isinstance(found, UrlPath):
    raise ValueError(f"`{name}` must be on a disk, got {str(found)!r}.")
  return found


def are_same(one: Path, other: Path) -> bool:
  """Whether two paths lead to the same place, which may not exist yet.

  Args:
    one: a path.
    other: a path.
  """
  return path(one).resolve() == path(other).resolve()


def is_readable(place: Path | bytes) -> bool:
  """Whether a file exists and may be read.

  Args:
    place: the file, also as TensorFlow passes it.
  """
  try:
    found = path(os.fsdecode(place))
    may_read = isinstance(found, UrlPath) or os.access(found, os.R_OK)
    return found.is_file() and may_read
  except OSError:
    return False


def absolute(place: Path) -> str:
  """The path from the root of the file system, as text."""
  found = path(place)
  if isinstance(found, UrlPath):
    return str(found)
  return os.path.abspath(found)


def move(source: Path, target: Path) -> None:
  """Replaces a file by another one that is first brought to the disk.

  Args:
    source: the new content; it is gone afterwards.
    target: the file to replace.
  """
  sync(source)
  path(source).replace(os.fspath(target))


def write_text(place: Path, text: str) -> None:
  """Writes a text file whole or not at all.

  Args:
    place: the file.
    text: its content.
  """
  with replacing(place) as temporary:
    temporary.write_text(text, encoding="utf-8")


def set_aside(place: Path, label: str = "damaged") -> AnyPath:
  """Gives a file another name in its directory, which is not in use.

  Args:
    place: the file; it is gone afterwards.
    label: what the new name says of it: `NAME.LABEL`, then `NAME.LABEL2`, ...

  Returns:
    The new path.
  """
  source = path(place)
  target, number = source.with_name(f"{source.name}.{label}"), 1
  while target.exists():
    number += 1
    target = source.with_name(f"{source.name}.{label}{number}")
  source.replace(os.fspath(target))
  return target


def remove_temporaries(directory: Path) -> None:
  """Removes temporary files that killed processes left in a directory.

  Args:
    directory: the directory.
  """
  for found in path(directory).iterdir():
    if _TEMPORARY.search(found.name) and found.is_file():
      found.unlink(missing_ok=True)


def remove_tree(directory: Path) -> None:
  """Removes a directory and what it holds, if it exists.

  Args:
    directory: the directory.
  """
  found = path(directory)
  if isinstance(found, UrlPath):
    found.remove_tree()
  else:
    shutil.rmtree(found, ignore_errors=True)


def sync(place: Path) -> None:
  """Waits until a file or directory is on the disk; buckets do not need it."""
  found = path(place)
  if isinstance(found, UrlPath) or (os.name == "nt" and found.is_dir()):
    return  # Windows opens no directories.
  # Windows only writes what was opened for writing.
  mode = os.O_RDWR if os.name == "nt" else os.O_RDONLY
  descriptor = os.open(found, mode)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
