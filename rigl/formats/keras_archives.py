# SPDX-License-Identifier: Apache-2.0
"""Keras files that are read in bounded time and memory, also if damaged."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from rigl.file_contents import DamagedError
from rigl.formats import hdf5_copy

# No file of a zip archive is larger than this many times what it takes there.
_MAX_COMPRESSION = 1032
# What the module `zipfile` raises for damage, or for a kind that it lacks.
_ZIP_ERRORS = (
  *(EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError),
  *(zipfile.BadZipFile, zlib.error),
)
# The settings of a Lambda layer that may be code.
_LAMBDA_PARTS = ("function", "output_shape", "mask")
# How much larger variables may be than the numbers of their file, which may
# have fewer bits, and what variables take that no file holds.
_LARGER, _SPARE = 4, 64 * 1024 * 1024


def advice(place: str | os.PathLike, version: str) -> str:
  """What helps if Keras cannot load a file: words in parentheses, or nothing.

  Args:
    place: the file.
    version: the version of the installed Keras.
  """
  if version.startswith("2.") and os.fspath(place).endswith(".keras"):
    return f" (a file of Keras 3 needs Keras 3; installed: {version})."
  return ""


@contextlib.contextmanager
def readable(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a file of the same model that Keras may load within the block.

  Variables that are made there may not be larger than the file says.

  Args:
    path: a `.keras` or `.h5` file.

  Yields:
    The `.keras` file itself, whose checksums are right, or a copy of the `.h5`
    file, which may be changed and is removed at the end of the block.

  Raises:
    DamagedError: if the file is damaged.
    ValueError: if it is a `.h5` file with Python code, of a Lambda layer.
    OSError: if it cannot be read, or is another kind of file.
  """
  if path.suffix != ".h5":
    with _bounded_variables(_checked_bytes(path)):
      yield path
    return
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder, path.name)
    try:
      hdf5_copy.copy(path, copy)
    except ValueError as error:
      raise DamagedError(str(error)) from error
    _refuse_code(copy)
    with _bounded_variables(copy.stat().st_size):
      yield copy


def _refuse_code(path: pathlib.Path) -> None:
  """Refuses Python code in an HDF5 file.

  Keras 2, and Keras 3 before 3.11.3, would run it (CVE-2025-9905). In `.keras`
  files, Keras refuses it itself.

  Raises:
    ValueError: if a layer of the file holds code.
  """
  import h5py  # Keras needs it, too.

  with h5py.File(path, "r") as file:
    config = file.attrs.get("model_config")
  try:
    holds_code = config is not None and _holds_code(json.loads(config))
  except (TypeError, ValueError):
    return  # Keras says what it expects.
  if holds_code:
    raise ValueError(
      "a Lambda layer holds Python code, which is unsafe to run."
    )


def _holds_code(config: Any) -> bool:
  """Whether settings of layers, as Keras 2 or 3 writes them, hold code."""
  if isinstance(config, list):
    return any(map(_holds_code, config))
  if not isinstance(config, dict):
    return False
  kinds = (config.get(f"{name}_type") for name in _LAMBDA_PARTS)
  is_code = config.get("class_name") == "__lambda__" or "lambda" in kinds
  return is_code or any(map(_holds_code, config.values()))


def _checked_bytes(path: pathlib.Path) -> int:
  """The bytes of all parts of a zip archive, after a look at their checksums.

  Keras reads on if one is wrong, and gives such weights to the HDF5 library.

  Raises:
    DamagedError: if one is wrong.
  """
  if not zipfile.is_zipfile(path):
    return 0  # Keras says what it expects.
  try:
    with zipfile.ZipFile(path) as archive:
      claimed = sum(part.file_size for part in archive.infolist())
      if claimed > _MAX_COMPRESSION * path.stat().st_size:
        raise DamagedError(f"it claims to unpack to {claimed} bytes.")
      damaged = archive.testzip()
  except _ZIP_ERRORS as error:
    raise DamagedError(f"{error or type(error).__name__}.") from error
  if damaged is not None:
    raise DamagedError(f"the checksum of its {damaged} is wrong.")
  return claimed


@contextlib.contextmanager
def _bounded_variables(stored: int) -> Iterator[None]:
  """Refuses variables that a file of so many bytes does not fill.

  Settings of layers may claim any size, and Keras makes their weights before it
  compares them with those of the file.

  Raises:
    DamagedError: if there are too many.
  """
  import tensorflow as tf  # Keras needs it, too.

  made, limit = 0, _LARGER * stored + _SPARE

  def create(next_creator: Any, **settings: Any) -> Any:
    nonlocal made
    made += _bytes_of(settings.get("initial_value"))
    if made > limit:
      raise DamagedError("too many weights")
    return next_creator(**settings)

  try:
    with tf.variable_creator_scope(create):
      yield
  except Exception as error:
    if made <= limit:
      raise
    raise DamagedError(
      "its layers claim more weights than the file holds."
    ) from error


def _bytes_of(value: Any) -> int:
  """The bytes of a variable's first value, which is not computed."""
  import tensorflow as tf

  if callable(value):
    with tf.Graph().as_default():
      value = value()
  size = value.shape.num_elements() or 0
  return int(size) * tf.as_dtype(value.dtype).size
