# SPDX-License-Identifier: Apache-2.0
"""Reads the records of ImageNet's TFRecord files and names damaged ones.

`find_shards` finds the files, `preprocessing` decodes and crops the images,
`imagenet_input` makes batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError

from rigl import files
from rigl.file_kinds import HEAD_BYTES, kind_of
from rigl.imagenet_resnet.input import preprocessing
from rigl.types import Tensor
from rigl.url_path import reason_of

# A record is its length (8 bytes) with a checksum (4), the data, a checksum.
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_READ_BYTES = 8 * 1024 * 1024
_JPEG_START = b"\xff\xd8\xff"
_NO_CLASS = -1
_WRONG_FILE = "the file is no TFRecord file"


class CorruptRecord(NamedTuple):
  """A damaged record.

  Attributes:
    path: the file.
    offset: the offset of the record in the file, in bytes.
    problem: why it cannot be read.
    is_label: whether its label is the problem, so that it is not left out.
  """

  path: str
  offset: int
  problem: str
  is_label: bool = False

  def __str__(self) -> str:
    return f"{self.path}, record at byte {self.offset}: {self.problem}"

  @property
  def advice(self) -> str:
    """A sentence with the cure that the flags have, if there is one."""
    if self.is_label or self.problem.startswith(_WRONG_FILE):
      return f"{self}."
    return f"{self}; --skip_corrupt_records leaves it out."


@dataclasses.dataclass(frozen=True)
class Shards:
  """The files of a split.

  Attributes:
    paths: the files, sorted by name.
    image_key: feature that holds the JPEG.
    label_key: feature that holds the class.
    first_label: number of the first class.
    num_classes: number of classes of the network. None: any.
  """

  paths: tuple[str, ...]
  image_key: str
  label_key: str
  first_label: int
  num_classes: int | None = None

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
      The JPEG, string scalar, and the class from 0, int32 scalar; -1 if the
      network has no such class.
    """
    features = tf.io.parse_single_example(
      record,
      {
        self.image_key: tf.io.FixedLenFeature([], tf.string),
        self.label_key: tf.io.FixedLenFeature([], tf.int64),
      },
    )
    # Compared before it is cast: int32 would wrap large numbers.
    label = features[self.label_key] - self.first_label
    end = tf.int32.max if self.num_classes is None else self.num_classes
    is_class = tf.logical_and(label >= 0, label < end)
    label = tf.where(is_class, label, tf.constant(_NO_CLASS, tf.int64))
    return features[self.image_key], tf.cast(label, tf.int32)

  def label_problem(self, record: Tensor) -> str | None:
    """The reason why the label of a record is wrong.

    Args:
      record: string scalar.

    Returns:
      The reason; None if the label is right or there is none.
    """
    features = _features(record)
    if features is None or self.label_key not in features:
      return None
    values = features[self.label_key].int64_list.value
    if len(values) != 1:
      return None  # It cannot be parsed.
    first, label = self.first_label, values[0]
    if self.num_classes is None:
      return None if label >= first else _negative(self.label_key, label, first)
    if first <= label < first + self.num_classes:
      return None
    return (
      f"{self.label_key} is {label}, but labels go from {first} to "
      f"{first + self.num_classes - 1} in such files with "
      f"--num_label_classes={self.num_classes}"
    )

  def image_problem(self, record: Tensor) -> str | None:
    """The reason why a record holds no image; None if it does."""
    features = _features(record)
    if features is None:
      return "it is no tf.train.Example"
    for key, kind in (
      (self.image_key, "bytes_list"),
      (self.label_key, "int64_list"),
    ):
      if key not in features:
        known = ", ".join(sorted(features)[:6]) or "none"
        return f"it lacks the feature {key}; its features: {known}"
      count = len(getattr(features[key], kind).value)
      if count != 1:
        return f"{key} must hold one value in {kind}, it holds {count}"
    image = features[self.image_key].bytes_list.value[0]
    if not image.startswith(_JPEG_START):
      kind = kind_of(image[:HEAD_BYTES]) or "it is of an unknown kind"
      return f"{self.image_key} must hold a JPEG image: {kind}"
    try:
      preprocessing.evaluation_image(tf.constant(image))
      tf.io.decode_jpeg(image, channels=3)
    except tf.errors.OpError as error:
      return reason_of(error)
    return None

  def damage(
    self, path: str, offset: int, record: Tensor, decode: bool = True
  ) -> CorruptRecord | None:
    """What is wrong with a record; None if nothing is.

    Args:
      path: its file.
      offset: its place in the file, in bytes.
      record: string scalar.
      decode: whether to decode the image as well, which takes longer.
    """
    label = self.label_problem(record)
    if label:
      return CorruptRecord(path, offset, label, is_label=True)
    problem = self.image_problem(record) if decode else None
    return CorruptRecord(path, offset, problem) if problem else None

  def examine(
    self, path: str, decode: bool = True
  ) -> Iterator[CorruptRecord | None]:
    """Reads a file from start to end.

    Args:
      path: the file.
      decode: whether to decode the images as well, which takes longer.

    Yields:
      For each record what is wrong with it; None if nothing is. Reading ends
      at a record whose checksum is wrong.
    """
    offset = 0
    records = iter(tf.data.TFRecordDataset(path))
    while True:
      try:
        record = next(records)
      except StopIteration:
        return
      except tf.errors.OpError as error:
        yield CorruptRecord(path, offset, _file_problem(path, offset, error))
        return
      yield self.damage(path, offset, record, decode)
      offset += _size(record.numpy())

  def corrupt_records(self, decode: bool = True) -> Iterator[CorruptRecord]:
    """Reads all files from start to end and yields the damaged records.

    Args:
      decode: whether to decode the images as well, which takes longer.

    Yields:
      Records. Reading of a file ends at a record whose checksum is wrong.
    """
    for path in self.paths:
      yield from filter(None, self.examine(path, decode))


def _features(record: Tensor) -> dict | None:
  """The features of a record by name; None if it is no Example."""
  example = tf.train.Example()
  try:
    example.ParseFromString(record.numpy())
  except DecodeError:
    return None
  return dict(example.features.feature)


def _negative(key: str, label: int, first: int) -> str:
  return f"{key} is {label}, but labels start at {first} in such files"


def _file_problem(path: str, offset: int, error: tf.errors.OpError) -> str:
  """Why reading a file ended at an offset."""
  if not offset:
    try:
      with files.path(path).open("rb") as file:
        kind = kind_of(file.read(HEAD_BYTES))
    except OSError:
      kind = None
    if kind:
      return f"{_WRONG_FILE}: {kind}"
  return reason_of(error)


def _placed(
  offset: Tensor, record: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
  size = tf.cast(tf.strings.length(record), tf.int64)
  return offset + size + _HEADER_BYTES + _FOOTER_BYTES, (offset, record)


def _size(record: bytes) -> int:
  return len(record) + _HEADER_BYTES + _FOOTER_BYTES
