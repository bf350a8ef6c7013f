# SPDX-License-Identifier: Apache-2.0
"""Contents of files: JSON, CSV and npz archives, read with one error.

A file that cannot be understood is a `DamagedError`. `files` has the paths.
"""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rigl import files


class DamagedError(ValueError):
  """A file is damaged."""


def read_json(place: files.Path) -> Any:
  """Reads a JSON file.

  Args:
    place: the file.

  Raises:
    DamagedError: if it is no JSON, or nested too deeply.
    OSError: if it cannot be read.
  """
  try:
    # With or without the mark that Windows' editors put first.
    return json.loads(files.path(place).read_text(encoding="utf-8-sig"))
  except (ValueError, RecursionError) as error:
    raise DamagedError(str(error)) from error


def read_json_object(place: files.Path) -> dict[str, Any]:
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
    raise DamagedError(f"{files.path(place).name} is damaged") from error
  if not isinstance(found, dict):
    raise DamagedError(f"{files.path(place).name} is damaged")
  return found


def read_csv(place: files.Path) -> list[dict[str, str]]:
  """Reads the rows of a CSV file whose first line names the columns.

  Args:
    place: the file.

  Raises:
    DamagedError: if it is no such file; the text has its name.
    OSError: if it cannot be read.
  """
  try:
    text = files.path(place).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))
  except (UnicodeDecodeError, csv.Error) as error:
    raise DamagedError(f"{files.path(place).name} is damaged") from error


def write_arrays(
  place: files.Path, arrays: Mapping[str, np.ndarray], compressed: bool = False
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
  with files.replacing(place) as temporary:
    temporary.write_bytes(content.getvalue())


def read_arrays(
  place: files.Path, names: Sequence[str] | None = None
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
  content = files.path(place).read_bytes()
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
  except Exception as error:
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
