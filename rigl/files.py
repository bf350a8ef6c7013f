# SPDX-License-Identifier: Apache-2.0
"""Files on disks and in buckets, written atomically.

A reader sees the old content or the new one. Paths such as `gs://bucket/run`
are read and written by TensorFlow, all others by Python.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
import math
import os
import pathlib
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rigl.url_path import UrlPath, has_scheme

Path = str | os.PathLike
AnyPath: TypeAlias = pathlib.Path | UrlPath

# The temporary names of `replacing` and of checkpoints.
_TEMPORARY = re.compile(r"\.tmp\d+(\..*)?$")
_FILE_SCHEME = "file://"


class DamagedError(ValueError):
  """A file is damaged."""


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


def read_json(place: Path) -> Any:
  """Reads a JSON file.

  Args:
    place: the file.

  Raises:
    DamagedError: if it is no JSON, or nested too deeply.
    OSError: if it cannot be read.
  """
  try:
    # With or without the mark that Windows' editors put first.
    return json.loads(path(place).read_text(encoding="utf-8-sig"))
  except (ValueError, RecursionError) as error:
    raise DamagedError(str(error)) from error


def read_json_object(place: Path) -> dict[str, Any]:
  """Reads a JSON file that holds one object.

  Args:
    place: the file.

  Raises:
    DamagedError: if it holds something else; the text has the file's name.
    OSError: if it cannot be read.
  """
  try:
    found = read_json(place)
  except DamagedError as error:
    raise DamagedError(f"{path(place).name} is damaged") from error
  if not isinstance(found, dict):
    raise DamagedError(f"{path(place).name} is damaged")
  return found


def read_csv(place: Path) -> list[dict[str, str]]:
  """Reads the rows of a CSV file whose first line names the columns.

  Args:
    place: the file.

  Raises:
    DamagedError: if it is no such file; the text has its name.
    OSError: if it cannot be read.
  """
  try:
    text = path(place).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))
  except (UnicodeDecodeError, csv.Error) as error:
    raise DamagedError(f"{path(place).name} is damaged") from error


def write_arrays(
  place: Path, arrays: Mapping[str, np.ndarray], compressed: bool = False
) -> None:
  """Writes an npz archive whole or not at all.

  Args:
    place: the file.
    arrays: its arrays by name.
    compressed: whether to compress it.
  """
  content = io.BytesIO()  # NumPy seeks in the file, which buckets cannot.
  save: Any = np.savez_compressed if compressed else np.savez
  save(content, **arrays)
  with replacing(place) as temporary:
    temporary.write_bytes(content.getvalue())


def read_arrays(
  place: Path, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
  """Reads an npz archive.

  Args:
    place: the file.
    names: the arrays to read; None for all.

  Returns:
    The arrays by name.

  Raises:
    DamagedError: if the file is damaged, or the header of an array claims more
      bytes than it has.
    ValueError: if it is another file, or an array is missing.
    OSError: if it cannot be read.
  """
  content = path(place).read_bytes()
  if content[:2] != b"PK":
    raise ValueError("expected an npz archive, found something else.")
  try:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
      missing = [name for name in names or () if name not in archive.files]
      if missing:
        raise ValueError(
          f"it lacks the key {missing[0]!r} and has {archive.files}"
        )
      found = {}
      for name in archive.files if names is None else names:
        _check_header(archive.zip, f"{name}.npy")
        found[name] = archive[name]
      return found
  except ValueError:
    raise
  # NumPy has no error of its own for files that are truncated, damaged or of
  # another kind.
  except (Exception, MemoryError) as error:
    text = " ".join(str(error).split())
    raise DamagedError(f"{type(error).__name__}: {text}") from error


def _check_header(archive: zipfile.ZipFile, name: str) -> None:
  """Raises ValueError if an array claims more bytes than its file has."""
  with archive.open(name) as file:
    version = np.lib.format.read_magic(file)
    read = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read(file)
  claimed = math.prod(shape) * dtype.itemsize
  if claimed > archive.getinfo(name).file_size:
    raise DamagedError(f"the header of {name} claims {claimed} bytes")


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
