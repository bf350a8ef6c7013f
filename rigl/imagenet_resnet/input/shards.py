# SPDX-License-Identifier: Apache-2.0
"""Finds the TFRecord files of ImageNet and reads their records.

`preprocessing` decodes and crops the images; `imagenet_input` makes batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from rigl.types import Tensor

SPLITS = ("train", "validation")

# A record is its length (8 bytes) with a checksum (4), the data, a checksum.
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_READ_BYTES = 8 * 1024 * 1024


class CorruptRecord(NamedTuple):
  """A damaged record.

  Attributes:
    path: the file.
    offset: the offset of the record in the file, in bytes.
    problem: why it cannot be read.
  """

  path: str
  offset: int
  problem: str

  def __str__(self) -> str:
    return f"{self.path}, record at byte {self.offset}: {self.problem}"


class _Layout(NamedTuple):
  """A way to store ImageNet; file names are patterns with a {split}."""

  pattern: str
  image_key: str
  label_key: str
  first_label: int


_TFRECORDS = ("image/encoded", "image/class/label", 1)
_TFDS = ("image", "label", 0)
_LAYOUTS = (
  _Layout("{split}-*-of-*", *_TFRECORDS),
  _Layout("{split}/{split}-*-of-*", *_TFRECORDS),
  _Layout("*-{split}.tfrecord-*-of-*", *_TFDS),
  _Layout("*/*-{split}.tfrecord-*-of-*", *_TFDS),
  _Layout("imagenet2012/*/*-{split}.tfrecord-*-of-*", *_TFDS),
)


@dataclasses.dataclass(frozen=True)
class Shards:
  """The files of a split.

  Attributes:
    paths: the files, sorted by name.
    image_key: feature that holds the JPEG.
    label_key: feature that holds the class.
    first_label: number of the first class.
  """

  paths: tuple[str, ...]
  image_key: str
  label_key: str
  first_label: int

  def records(self, path: Tensor) -> tf.data.Dataset:
    """The records of a file, string scalars.

    Args:
      path: string scalar.
    """
    return tf.data.TFRecordDataset(path, buffer_size=_READ_BYTES)

  def placed_records(self, path: Tensor) -> tf.data.Dataset:
    """The records of a file and where they are, to find a damaged one.

    Args:
      path: string scalar.

    Returns:
      Dataset of {`path`: string, `offset`: int64, `record`: string}, where
      `offset` is the place of the record in the file in bytes.
    """
    records = self.records(path).scan(tf.constant(0, tf.int64), _placed)
    return records.map(
      lambda offset, record: {
        "path": path,
        "offset": offset,
        "record": record,
      }
    )

  def parse(self, record: Tensor) -> tuple[Tensor, Tensor]:
    """Takes a record apart.

    Args:
      record: string scalar, a `tf.train.Example`.

    Returns:
      The JPEG, string scalar, and the class from 0, int32 scalar.
    """
    features = tf.io.parse_single_example(
      record,
      {
        self.image_key: tf.io.FixedLenFeature([], tf.string),
        self.label_key: tf.io.FixedLenFeature([], tf.int64),
      },
    )
    label = tf.cast(features[self.label_key], tf.int32) - self.first_label
    return features[self.image_key], label

  def problem(self, record: Tensor) -> str | None:
    """The reason why a record cannot be decoded; None if it can."""
    try:
      tf.io.decode_jpeg(self.parse(record)[0])
    except tf.errors.OpError as error:
      return _first_line(error)
    return None

  def corrupt_records(self, decode: bool = True) -> Iterator[CorruptRecord]:
    """Reads all files from start to end and yields the damaged records.

    Args:
      decode: whether to decode the images as well, which takes longer.

    Yields:
      Records. Reading of a file ends at a record whose checksum is wrong.
    """
    for path in self.paths:
      offset = 0
      records = iter(tf.data.TFRecordDataset(path))
      while True:
        try:
          record = next(records)
        except StopIteration:
          break
        except tf.errors.OpError as error:
          yield CorruptRecord(path, offset, _first_line(error))
          break
        problem = self.problem(record) if decode else None
        if problem:
          yield CorruptRecord(path, offset, problem)
        offset += _size(record.numpy())


def find_shards(directory: str, split: str) -> Shards:
  """Finds the files of a split.

  Args:
    directory: local or `gs://`; TFRecords `train-00000-of-01024` and so on, or
      a TFDS directory (the data directory, or that of `imagenet2012` or of its
      version) of TFRecords.
    split: `train` or `validation`.

  Returns:
    The files and how to read them.

  Raises:
    ValueError: if the split is unknown.
    FileNotFoundError: if there are no such files.
  """
  if split not in SPLITS:
    raise ValueError(f"`split` must be one of {SPLITS}, got {split!r}.")
  patterns = []
  for layout in _LAYOUTS:
    pattern = layout.pattern.format(split=split)
    paths = tf.io.gfile.glob(tf.io.gfile.join(directory, pattern))
    if paths:
      return Shards(tuple(sorted(paths)), *layout[1:])
    patterns.append(pattern)
  raise FileNotFoundError(
    f"`data_directory` {directory!r} has no ImageNet {split} files; looked for "
    f"{', '.join(patterns)}. `--use_synthetic_data` needs none."
  )


def _placed(
  offset: Tensor, record: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
  size = tf.cast(tf.strings.length(record), tf.int64)
  return offset + size + _HEADER_BYTES + _FOOTER_BYTES, (offset, record)


def _size(record: bytes) -> int:
  return len(record) + _HEADER_BYTES + _FOOTER_BYTES


def _first_line(error: Exception) -> str:
  return str(error).splitlines()[0]
