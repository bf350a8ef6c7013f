# SPDX-License-Identifier: Apache-2.0
"""Finds the files of ImageNet: TFRecords of both layouts, whole and once."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from rigl import files
from rigl.imagenet_resnet.input.shards import Shards
from rigl.url_path import UrlPath

SPLITS = ("train", "validation")

# How many names a message holds.
_NAMED = 3
# Records that `check_images` looks at before it gives up.
_TRIED = 256
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# (prefix, number of the file, number of files, ending) of a name.
_NAME = re.compile(r"(.*)-(\d+)-of-(\d+)(\..*)?", re.DOTALL)
# Feature of the JPEG, feature of the class, number of the first class.
_TFRECORD_KEYS = ("image/encoded", "image/class/label", 1)
_TFDS_KEYS = ("image", "label", 0)
# TFDS stores records in one of these, of which the first is read.
_TFDS_FORMATS = ("tfrecord", "array_record", "riegeli", "parquet", "bagz")


class _Layout(NamedTuple):
  """A way to store ImageNet.

  Attributes:
    folders: patterns of the folders below each other; `VERSION` stands for
      the newest one.
    is_tfds: whether TFDS names the files and their features.
  """

  folders: tuple[str, ...]
  is_tfds: bool

  def pattern(self, split: str) -> str:
    """The names that it has, for messages."""
    name = f"*-{split}.tfrecord-*" if self.is_tfds else f"{split}-*"
    return "/".join((*self.folders, f"{name}-of-*")).format(split=split)


_LAYOUTS = (
  _Layout((), False),
  _Layout(("{split}",), False),
  _Layout((), True),
  _Layout(("VERSION",), True),
  _Layout(("imagenet2012", "VERSION"), True),
)


def find_shards(
  directory: str, split: str, num_classes: int | None = None
) -> Shards:
  """Finds the files of a split.

  Args:
    directory: local or in a bucket; TFRecords `train-00000-of-01024` and so
      on, or a TFDS directory (the data directory, or that of `imagenet2012` or
      of its version) of TFRecords. Of several versions the newest is read.
    split: `train` or `validation`.
    num_classes: number of classes of the network. None: any.

  Returns:
    The files and how to read them.

  Raises:
    ValueError: if the split is unknown, or files are missing or of two sets.
    FileNotFoundError: if there are no such files.
  """
  if split not in SPLITS:
    raise ValueError(f"`split` must be one of {SPLITS}, got {split!r}.")
  root = files.path(directory, "data_directory")
  if not root.is_dir():
    what = "is a file" if root.exists() else "does not exist"
    raise FileNotFoundError(
      f"`data_directory` {directory!r} has no ImageNet {split} files: it "
      f"{what}."
    )
  for layout in _LAYOUTS:
    folder = _inside(root, layout, split)
    found = _of_split(folder, layout.is_tfds, split) if folder else []
    if found:
      _check_complete(found, split)
      paths = tuple(str(path) for path in found)
      keys = _TFDS_KEYS if layout.is_tfds else _TFRECORD_KEYS
      return Shards(paths, *keys, num_classes)
  _fail_for_other_formats(root, split)
  patterns = [layout.pattern(split) for layout in _LAYOUTS]
  raise FileNotFoundError(
    f"`data_directory` {directory!r} has no ImageNet {split} files; looked for "
    f"{', '.join(patterns)}. `--use_synthetic_data` needs none."
  )


def check_images(
  shards: Shards, split: str, skip_corrupt_records: bool = False
) -> None:
  """Checks that there is an image; without one training would wait forever.

  While a graph is built, nothing is checked.

  Args:
    shards: the files.
    split: their split.
    skip_corrupt_records: whether training will leave damaged records out.

  Raises:
    ValueError: if there is none, naming the first damaged record.
  """
  if not tf.executing_eagerly():
    return  # An Estimator builds its graph, where nothing can be read.
  for path in shards.paths:
    on_disk = not isinstance(files.path(path), UrlPath)
    if on_disk and not files.is_readable(path):
      raise ValueError(f"`data_directory`: {path!r} cannot be read.")
  empty = [path for path in shards.paths if _is_empty(path)]
  first, tried = None, 0
  for path in shards.paths:
    for found in shards.examine(path) if path not in empty else ():
      if found is None:
        _warn_of_empty(empty, split)
        return
      first, tried = first or found, tried + 1
      if not skip_corrupt_records:
        raise ValueError(f"`data_directory`: {found.advice}")
      if tried == _TRIED:
        break
    if tried == _TRIED:
      break
  if first is None:
    raise ValueError(
      f"`data_directory` holds no {split} image: the {len(shards.paths)} files "
      f"hold no record, such as {shards.paths[0]}."
    )
  raise ValueError(
    f"`data_directory`: none of the first {tried} {split} records holds an "
    f"image that can be read; {first}."
  )


def _inside(
  root: files.AnyPath, layout: _Layout, split: str
) -> files.AnyPath | None:
  """The folder of a layout; None if it does not exist."""
  folder = root
  for part in layout.folders:
    if part == "VERSION":
      newest = _newest_version(folder)
      if newest is None:
        return None
      folder = newest
    else:
      folder = folder / part.format(split=split)
      if not folder.is_dir():
        return None
  return folder


def _newest_version(folder: files.AnyPath) -> files.AnyPath | None:
  """The newest version of TFDS in a folder, or its only folder."""
  folders = [path for path in folder.iterdir() if path.is_dir()]
  versions = [path for path in folders if _VERSION.fullmatch(path.name)]
  if not versions:
    return None
  versions.sort(key=lambda path: [int(n) for n in path.name.split(".")])
  if len(versions) > 1:
    names = ", ".join(path.name for path in versions)
    logging.warning(
      "`%s` holds the versions %s; %s is read.",
      folder,
      names,
      versions[-1].name,
    )
  return versions[-1]


def _of_split(
  folder: files.AnyPath, is_tfds: bool, split: str
) -> list[files.AnyPath]:
  """The files of a split in a folder, sorted; unfinished ones are left out."""
  by_ending: dict[str, list[files.AnyPath]] = {}
  for path in folder.iterdir():
    match = _NAME.fullmatch(path.name)
    if not match:
      continue
    prefix = match[1]
    if prefix == split or (is_tfds and prefix.endswith(f"-{split}.tfrecord")):
      by_ending.setdefault(match[4] or "", []).append(path)
  if "" in by_ending or not by_ending:
    return sorted(by_ending.get("", []))
  if len(by_ending) > 1:
    raise ValueError(
      f"`data_directory`: {str(folder)!r} holds {split} files with the endings "
      f"{', '.join(sorted(by_ending))}; leave one of them."
    )
  return sorted(*by_ending.values())


def _check_complete(found: Sequence[files.AnyPath], split: str) -> None:
  """Checks that files are one set, without gaps."""
  folder = found[0].parent
  sets: dict[tuple[str, int], set[int]] = {}
  for path in found:
    match = _NAME.fullmatch(path.name)
    assert match
    sets.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    if not isinstance(path, UrlPath) and path.is_dir():
      raise ValueError(f"`data_directory`: {str(path)!r} must be a file.")
  if len(sets) > 1:
    names = sorted(f"{prefix}-*-of-{count}" for prefix, count in sets)
    raise ValueError(
      f"`data_directory`: {str(folder)!r} holds {len(sets)} sets of {split} "
      f"files, {', '.join(names[:_NAMED])}; leave one of them."
    )
  (((prefix, count), numbers),) = sets.items()
  num_missing = count - sum(n < count for n in numbers)
  if num_missing:
    # A name may claim any number of files.
    missing = (n for n in range(count) if n not in numbers)
    digits = len(found[0].name.split("-of-")[1].split(".")[0])
    names = [
      f"{prefix}-{n:0{digits}}-of-{count:0{digits}}"
      for n in itertools.islice(missing, _NAMED)
    ]
    raise ValueError(
      f"`data_directory`: {str(folder)!r} lacks {num_missing} of the {count} "
      f"{split} files: {', '.join(names)}"
      f"{', ...' if num_missing > _NAMED else ''}."
    )


def _fail_for_other_formats(root: files.AnyPath, split: str) -> None:
  """Names the cure if TFDS stored the data in another format."""
  for layout in _LAYOUTS:
    folder = _inside(root, layout, split)
    for path in folder.iterdir() if folder else ():
      for kind in _TFDS_FORMATS[1:]:
        if f"-{split}.{kind}" in path.name:
          raise ValueError(
            f"`data_directory`: {str(path)!r} is a file of the format {kind}, "
            "which is not read; make TFRecords of it with tfds build "
            "imagenet2012 --file_format=tfrecord."
          )


def _is_empty(path: str) -> bool:
  """Whether a file on a disk is empty; in buckets that takes long to see."""
  found = files.path(path)
  return not isinstance(found, UrlPath) and found.stat().st_size == 0


def _warn_of_empty(empty: Sequence[str], split: str) -> None:
  if empty:
    names = ", ".join(empty[:_NAMED])
    logging.warning("%d %s files are empty: %s.", len(empty), split, names)
