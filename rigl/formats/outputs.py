# SPDX-License-Identifier: Apache-2.0
"""Places where exported networks are written: whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from rigl import files
from rigl.url_path import UrlPath


def check_new(
  place: files.Path, overwrite: bool = False, ours: Sequence[str] = ()
) -> None:
  """Checks that something can be written to a place, before it is made.

  Args:
    place: a file or a directory.
    overwrite: whether what is there may be replaced.
    ours: names of files, all of which a directory must have to be replaced;
      empty if a file will be written.

  Raises:
    ValueError: if there is something that may not be replaced, or no directory
      to write to.
  """
  found = files.path(place, "output")
  if found.exists():
    if not overwrite:
      raise ValueError(
        f"`output`: {str(place)!r} exists; choose another name, or set "
        "`overwrite`."
      )
    if found.is_dir() != bool(ours):
      kind = "directory" if found.is_dir() else "file"
      raise ValueError(
        f"`output`: {str(place)!r} is a {kind}, which this `format` does not "
        "replace."
      )
    if not all((found / name).exists() for name in ours):
      raise ValueError(
        f"`output`: {str(place)!r} holds other files than an export; choose "
        "another name."
      )
  parent = found.absolute().parent if not isinstance(found, UrlPath) else None
  if parent is not None and not (
    parent.is_dir() and os.access(parent, os.W_OK)
  ):
    raise ValueError(
      "`output` must be in a directory that can be written to, got "
      f"{str(place)!r}."
    )


@contextlib.contextmanager
def replacing_directory(place: files.Path) -> Iterator[files.AnyPath]:
  """Gives a temporary directory that replaces another one at the end.

  Args:
    place: the directory to write or replace. It keeps what it holds until the
      end of the block, and if the block raises.

  Yields:
    A path beside it, where nothing is. Directories of buckets cannot be
    renamed: there it is the place itself, which is emptied.
  """
  target = files.path(place)
  temporary = target.with_name(f"{target.name}.tmp{os.getpid()}")
  if isinstance(target, UrlPath):
    temporary = target
  files.remove_tree(temporary)
  try:
    yield temporary
    if temporary != target:
      files.remove_tree(target)
      temporary.replace(os.fspath(target))
  except BaseException:
    files.remove_tree(temporary)
    raise
