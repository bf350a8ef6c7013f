# SPDX-License-Identifier: Apache-2.0
"""Archives of checkpoints: unpacked whole, and never beyond their folder.

The folder of an archive has a name that depends on the archive's content, so
that two archives of one name never share a folder.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import lzma
import pathlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple

from rigl.imagenet_resnet.published import downloads

_CHUNK = 1 << 20
_ENDINGS = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip")
_INDEX, _DATA = ".index", ".data-"
_BLOCK = 512  # Bytes of a block of a tar archive.
_LINKS = 40  # Links that may lead to each other.
_DIGITS = 16  # Of the checksum, in the name of a folder.
# What Python raises for files that are damaged or no archives.
_BROKEN = (
  tarfile.TarError,
  zipfile.BadZipFile,
  gzip.BadGzipFile,
  zlib.error,
  lzma.LZMAError,
  EOFError,
  IndexError,
  KeyError,  # A link to nowhere.
  NotImplementedError,  # A compression that zipfile does not know.
  OverflowError,
  RecursionError,  # Links in a circle.
  RuntimeError,  # An encrypted zip file.
  UnicodeError,
  ValueError,
)


class Member(NamedTuple):
  """A file of an archive.

  Attributes:
    size: its bytes.
    open: opens its content.
  """

  size: int
  open: Callable[[], IO[bytes]]


def stem(name: str) -> str:
  """The name of an archive without its ending, such as `.tar.gz`."""
  found = next((end for end in _ENDINGS if name.lower().endswith(end)), "")
  return name[: len(name) - len(found)] or "archive"


def unpack(archive: pathlib.Path, folder: pathlib.Path) -> list[pathlib.Path]:
  """Unpacks an archive, once.

  Args:
    archive: a tar archive, compressed or not, or a zip archive.
    folder: where folders of archives of this name are.

  Returns:
    The files of the archive, below `folder/CHECKSUM`. Their content is
    compared with the archive, also if they were there before.

  Raises:
    ValueError: if it is no archive, it is damaged, it holds names outside of
      its folder, or a file of an earlier call was changed since.
    OSError: if it cannot be read, or the files cannot be written.
  """
  place = folder / downloads.sha256_of(archive)[:_DIGITS]
  with _members(archive) as members:
    if not place.exists():
      folder.mkdir(parents=True, exist_ok=True)
      _check_space(members, folder)
      with tempfile.TemporaryDirectory(prefix=".new", dir=folder) as temporary:
        new = pathlib.Path(temporary) / "files"
        _write(members, new)
        try:
          new.rename(place)
        except OSError:
          if not place.exists():  # Another process was first.
            raise
    _compare(members, place, archive)
  return [place / name for name in members]


def newest_checkpoint(paths: Iterable[pathlib.Path]) -> pathlib.Path | None:
  """The prefix of the checkpoint of the highest step among files; or None."""
  paths = [p for p in paths if not p.name.startswith("._")]  # Those of macOS.
  with_data = {p.with_name(p.name.rsplit(_DATA, 1)[0]) for p in paths}
  prefixes = [
    path.with_name(path.name.removesuffix(_INDEX))
    for path in paths
    if path.name.endswith(_INDEX) and path.name != _INDEX
  ]
  return max(
    (prefix for prefix in prefixes if prefix in with_data),
    key=lambda prefix: (_step(prefix.name), str(prefix)),
    default=None,
  )


def _step(name: str) -> int:
  """The number at the end of a name; -1 if there is none."""
  digits = name[len(name.rstrip("0123456789")) :]
  return int(digits[:18]) if digits else -1


@contextlib.contextmanager
def _members(archive: pathlib.Path) -> Iterator[dict[str, Member]]:
  """The files of an archive by their relative path, while it is open.

  Raises:
    ValueError: if the archive is damaged or unsafe; errors of the block that
      come from reading it as well.
  """
  try:
    if zipfile.is_zipfile(archive):
      with zipfile.ZipFile(archive) as opened:
        yield _zip_members(opened)
    else:
      with tarfile.open(archive) as tar:
        yield _tar_members(tar)
  except _UnsafeError as error:
    raise ValueError(f"{archive}: {error}") from error
  except _BROKEN as error:
    if isinstance(error, _ChangedError):
      raise
    text = f"{type(error).__name__}: {error}"
    raise ValueError(
      f"{archive} is no archive that tar can unpack, and no zip archive, or it "
      f"is damaged ({text})."
    ) from error


class _UnsafeError(Exception):
  """A member that must not be written."""


class _ChangedError(ValueError):
  """A file is not the one of the archive."""


def _tar_members(tar: tarfile.TarFile) -> dict[str, Member]:
  if not hasattr(tarfile, "data_filter"):
    raise _UnsafeError(
      "unpacking needs a Python with tarfile's data filter: 3.10.12, 3.11.4, "
      "3.12 or newer."
    )
  try:
    members = tar.getmembers()
  except OSError as error:  # Of a seek to where a damaged size leads.
    raise tarfile.ReadError(str(error)) from error
  # TarFile ends its list where a header is damaged or missing.
  tar.fileobj.seek(tar.offset)
  if tar.fileobj.read(_BLOCK) != bytes(_BLOCK):
    raise tarfile.ReadError("the mark of its end is missing")
  by_name = {_normal(member.name): member for member in members}
  found = {}
  for member in members:
    try:
      tarfile.data_filter(member, "/nowhere")
    except tarfile.FilterError as error:
      raise _UnsafeError(str(error)) from error
    name = _checked(member.name)
    # Links are not made: a copy of the file of the archive takes their place.
    target = _target(member, by_name)
    if target is not None:
      found[name] = Member(target.size, functools.partial(_opened, tar, target))
  return found


def _target(
  member: tarfile.TarInfo, by_name: dict[str, tarfile.TarInfo]
) -> tarfile.TarInfo | None:
  """The regular file that a member is or leads to; None for a folder."""
  first = member
  for _ in range(_LINKS):
    if member.isreg():
      return member
    if member.isdir():
      return None
    base = pathlib.PurePosixPath(member.name).parent if member.issym() else "."
    goal = _normal(f"{base}/{member.linkname}")
    if goal not in by_name:
      if any(name.startswith(goal + "/") for name in by_name):
        return None  # A folder without a member of its own.
      break
    member = by_name[goal]
  raise _UnsafeError(f"{first.name!r} is a link to no file of the archive.")


def _normal(name: str) -> str:
  """A relative path without `.` and `..`."""
  parts: list[str] = []
  for part in name.split("/"):
    if part == "..":
      parts = parts[:-1]
    elif part not in ("", "."):
      parts.append(part)
  return "/".join(parts)


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
  file = tar.extractfile(member)
  if file is None:
    raise _UnsafeError(f"{member.name!r} is no regular file.")
  return file


def _zip_members(opened: zipfile.ZipFile) -> dict[str, Member]:
  found = {}
  for entry in opened.infolist():
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
      raise _UnsafeError(f"{entry.filename!r} is a link or a device.")
    name = _checked(entry.filename)
    if name and not entry.is_dir():
      found[name] = Member(
        entry.file_size, functools.partial(opened.open, entry)
      )
  return found


def _checked(name: str) -> str:
  """The normal form of a name, which must stay within its folder."""
  path = pathlib.PurePosixPath(name)
  windows = pathlib.PureWindowsPath(name)
  if path.is_absolute() or windows.drive or windows.root or ".." in path.parts:
    raise _UnsafeError(f"the name {name!r} would be outside of its folder.")
  return "" if str(path) == "." else str(path)


def _check_space(members: dict[str, Member], folder: pathlib.Path) -> None:
  needed = sum(member.size for member in members.values())
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise _UnsafeError(
      f"its files have {needed} bytes, and {folder} has room for {free}."
    )


def _write(members: dict[str, Member], folder: pathlib.Path) -> None:
  folder.mkdir()
  for name, member in members.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, path.open("xb") as copy:
      shutil.copyfileobj(source, copy, _CHUNK)


def _compare(
  members: dict[str, Member], folder: pathlib.Path, archive: pathlib.Path
) -> None:
  """Raises ValueError unless all files of an archive are in the folder."""
  for name, member in members.items():
    path = folder / name
    if (
      path.is_symlink()
      or not path.is_file()
      or path.stat().st_size != member.size
      or _content(member) != downloads.sha256_of(path)
    ):
      raise _ChangedError(
        f"{path} is not the file that {archive} holds; remove the folder "
        f"{folder} to unpack it again."
      )


def _content(member: Member) -> str:
  found = hashlib.sha256()
  with member.open() as file:
    while chunk := file.read(_CHUNK):
      found.update(chunk)
  return found.hexdigest()
