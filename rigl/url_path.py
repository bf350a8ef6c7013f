# SPDX-License-Identifier: Apache-2.0
"""Paths of files in buckets, such as `gs://bucket/run`.

TensorFlow reads and writes them. `rigl.files.path` makes them.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import os
import re
from collections.abc import Iterator
from typing import Any

_URL = re.compile(r"([A-Za-z][\w+.-]+):(/*)(.*)", re.DOTALL)
# Schemes that other readers know, to tell them from misspelt ones.
_ELSEWHERE = ("s3", "s3a", "hdfs", "viewfs", "http", "https", "az", "abfs")
_LONGEST_REASON = 300
# Places in graphs, which TensorFlow writes into its messages.
_NODE = re.compile(r"\{\{.*?\}\}|\[Op:\w+\]( name:)?")


def has_scheme(place: str) -> bool:
  """Whether a path starts with a scheme such as `gs://`.

  A file whose name only looks so, such as `a:b`, has none.
  """
  match = _URL.match(place)
  return bool(match and match[2])


class UrlPath(os.PathLike):
  """A path behind a scheme, with the methods of `pathlib.Path` that we use.

  Errors of TensorFlow become an `OSError` of one line.

  Args:
    url: such as `gs://bucket/run`.

  Raises:
    ValueError: if TensorFlow knows no such scheme, or slashes are missing.
  """

  def __init__(self, url: str) -> None:
    match = _URL.fullmatch(url)
    scheme, slashes, rest = match.groups() if match else ("", "", url)
    _check_scheme(url, scheme)
    if slashes != "//" or not rest.strip("/"):
      raise ValueError(
        f"`{url}` must be written as {scheme}://NAME/PATH, with two slashes "
        "and a name."
      )
    self._url = f"{scheme}://{rest.rstrip('/')}"

  def __fspath__(self) -> str:
    return self._url

  def __str__(self) -> str:
    return self._url

  def __repr__(self) -> str:
    return f"UrlPath({self._url!r})"

  def __eq__(self, other: object) -> bool:
    return isinstance(other, UrlPath) and self._url == str(other)

  def __hash__(self) -> int:
    return hash(self._url)

  def __lt__(self, other: UrlPath) -> bool:
    return self._url < str(other)

  def __truediv__(self, name: str | os.PathLike) -> UrlPath:
    return UrlPath(f"{self._url}/{os.fspath(name)}")

  def joinpath(self, *names: str) -> UrlPath:
    """The path of a file below this one."""
    return UrlPath("/".join([self._url, *names]))

  @property
  def name(self) -> str:
    """The last part."""
    return self._url.rpartition("/")[2]

  @property
  def suffix(self) -> str:
    """The ending of the last part, with its dot."""
    return os.path.splitext(self.name)[1]

  @property
  def parent(self) -> UrlPath:
    """The directory; that of a bucket is the bucket."""
    above = self._url.rpartition("/")[0]
    return self if above.endswith("/") else UrlPath(above)

  def with_name(self, name: str) -> UrlPath:
    """Another file in the same directory."""
    return self.parent / name

  def resolve(self) -> UrlPath:
    """The path itself: buckets have no links."""
    return self

  def exists(self) -> bool:
    """Whether there is such a file or directory."""
    return self._status() is not None

  def is_dir(self) -> bool:
    """Whether it is a directory."""
    status = self._status()
    return status is not None and bool(status.is_directory)

  def is_file(self) -> bool:
    """Whether it is a file."""
    status = self._status()
    return status is not None and not status.is_directory

  def iterdir(self) -> Iterator[UrlPath]:
    """The files and directories in this one."""
    with self._errors():
      names = _gfile().listdir(self._url)
    return iter([self / name.rstrip("/") for name in names])

  def glob(self, pattern: str) -> Iterator[UrlPath]:
    """The files in this directory whose names match; there may be none.

    Args:
      pattern: such as `*.npz`, of one name.
    """
    if not self.is_dir():
      return iter(())
    found = self.iterdir()
    return (path for path in found if fnmatch.fnmatch(path.name, pattern))

  def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
    """Makes the directory, and those above it.

    Args:
      parents: unused; as in `pathlib`.
      exist_ok: unused; as in `pathlib`.
    """
    del parents, exist_ok
    with self._errors():
      _gfile().makedirs(self._url)

  @contextlib.contextmanager
  def open(
    self, mode: str = "r", encoding: str = "utf-8", newline: str | None = None
  ) -> Iterator[Any]:
    """Opens the file for a block.

    Args:
      mode: as in `open`.
      encoding: unused; text is UTF-8.
      newline: unused; lines are written as they are.
    """
    del encoding, newline
    with self._errors(), _gfile().GFile(self._url, mode) as file:
      yield file

  def read_text(self, encoding: str = "utf-8") -> str:
    """The content as text."""
    return self.read_bytes().decode(encoding)

  def read_bytes(self) -> bytes:
    """The content."""
    with self.open("rb") as file:
      return bytes(file.read())

  def write_text(self, text: str, encoding: str = "utf-8") -> None:
    """Writes a text file."""
    self.write_bytes(text.encode(encoding))

  def write_bytes(self, content: bytes) -> None:
    """Writes the file."""
    with self.open("wb") as file:
      file.write(content)

  def replace(self, target: str | os.PathLike) -> None:
    """Gives the file another name; a file of that name is replaced."""
    with self._errors():
      _gfile().rename(self._url, os.fspath(target), overwrite=True)

  def unlink(self, missing_ok: bool = False) -> None:
    """Deletes the file.

    Args:
      missing_ok: whether there may be none.
    """
    try:
      with self._errors():
        _gfile().remove(self._url)
    except FileNotFoundError:
      if not missing_ok:
        raise

  def remove_tree(self) -> None:
    """Deletes the directory and what it holds, if it exists.

    File by file, because not every file system does it at once.
    """
    for found in list(self.iterdir()) if self.is_dir() else ():
      if found.is_dir():
        found.remove_tree()
      else:
        found.unlink(missing_ok=True)
    with contextlib.suppress(OSError), self._errors():
      _gfile().rmtree(self._url)  # What is left: the folder itself.

  def _status(self) -> Any:
    """What TensorFlow knows of the file; None if there is none."""
    try:
      with self._errors():
        return _gfile().stat(self._url)
    except FileNotFoundError:
      return None

  def _errors(self) -> contextlib.AbstractContextManager[None]:
    return python_errors(self._url)


@contextlib.contextmanager
def python_errors(place: str | os.PathLike) -> Iterator[None]:
  """Turns TensorFlow's errors about a file into Python's, of one line.

  Args:
    place: the file, for the message.

  Raises:
    FileNotFoundError: if there is no such file.
    OSError: for anything else.
  """
  import tensorflow as tf

  try:
    yield
  except tf.errors.OpError as error:
    reason = reason_of(error)
    kind: type[OSError] = OSError
    if isinstance(error, tf.errors.NotFoundError):
      kind = FileNotFoundError
    raise kind(f"`{os.fspath(place)}`: {reason}.") from error


def reason_of(error: Exception) -> str:
  """The message of an error of TensorFlow in one line, without graph nodes.

  Args:
    error: the error.
  """
  text = _NODE.sub("", str(getattr(error, "message", error)))
  return " ".join(text.split())[:_LONGEST_REASON] or type(error).__name__


def _gfile() -> Any:
  # Imported only where it is needed: commands without TensorFlow use files.
  import tensorflow as tf

  return tf.io.gfile


def _check_scheme(url: str, scheme: str) -> None:
  """Checks that TensorFlow knows a scheme."""
  known = sorted(filter(None, _gfile().get_registered_schemes()))
  if scheme in known:
    return
  shown = ", ".join(f"{name}://" for name in known if name != "ram")
  close = difflib.get_close_matches(scheme.lower(), known, 1)
  if scheme not in _ELSEWHERE and close:
    cure = f"did you mean {close[0]}://?"
  else:
    cure = "copy the files to a disk or to gs://, or mount them as a directory."
  raise ValueError(
    f"`{url}`: TensorFlow has no file system {scheme}:// here, only {shown}; "
    f"{cure}"
  )
