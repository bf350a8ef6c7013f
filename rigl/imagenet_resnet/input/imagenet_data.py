# SPDX-License-Identifier: Apache-2.0
"""ImageNet data: training and evaluation batches of the flags."""

from __future__ import annotations

import zlib

import tensorflow as tf

from rigl import files
from rigl.data.stream_source import Cursor, InputShard, StreamSource
from rigl.distribution.replicas import Replicas
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.input import corrupt_records, imagenet_input
from rigl.imagenet_resnet.input.find_shards import check_images, find_shards
from rigl.imagenet_resnet.input.input_settings import DataCursor, InputSettings
from rigl.imagenet_resnet.input.shards import CorruptRecord, Shards
from rigl.types import Batch, Tensor


class ImagenetData:
  """Training and evaluation images.

  Args:
    flags: the settings.
  """

  def __init__(self, flags: ImagenetSettings) -> None:
    self._flags = flags
    self._shards: dict[str, Shards] = {}

  @property
  def name(self) -> str:
    """Identity of the training data: hash of file names, or `synthetic`."""
    if self._flags.use_synthetic_data:
      return "synthetic"
    names = [files.path(path).name for path in self._split("train").paths]
    return f"{zlib.crc32(' '.join(names).encode()):08x}"

  def train_source(self, replicas: Replicas) -> StreamSource:
    """Makes the source of the training batches.

    Args:
      replicas: the devices that train.

    Raises:
      ValueError: if `data_directory` is missing.
      FileNotFoundError: if it holds no training files.
    """
    flags = self._flags
    batches = flags.num_train_images / flags.train_batch_size
    if flags.use_synthetic_data:
      return StreamSource(
        lambda _, shard: self._synthetic(flags.train_batch_size, shard),
        lambda _: tf.zeros([2], tf.int64),
        DataCursor(),
        batches,
        replicas,
      )
    shards = self._split("train")
    settings = self._settings(flags.train_batch_size, InputShard())

    def make(cursor: Cursor, shard: InputShard) -> tf.data.Dataset:
      return imagenet_input.training_dataset(
        shards,
        self._settings(flags.train_batch_size, shard),
        DataCursor(*cursor),
      )

    def diagnose(cursor: Cursor) -> str | None:
      try:
        check_images(shards, "train", flags.skip_corrupt_records)
      except (OSError, ValueError) as error:
        return str(error)
      found = corrupt_records.find_corrupt_record(
        shards, settings, DataCursor(*cursor)
      )
      return _advice(found)

    return StreamSource(make, _after, DataCursor(), batches, replicas, diagnose)

  def evaluation_batches(
    self, shard: InputShard | None = None
  ) -> tf.data.Dataset:
    """The images to evaluate on, at most `num_eval_images`.

    Args:
      shard: the part of one host. None: everything.

    Raises:
      ValueError: if `data_directory` is missing.
      FileNotFoundError: if it holds no files of the split.
    """
    flags, shard = self._flags, shard or InputShard()
    parts = shard.num_replicas
    size = -(-min(flags.eval_batch_size, flags.num_eval_images) // parts)
    # Batches of this host; every replica gets equally many.
    count = -(-flags.num_eval_images // (size * parts))
    count *= parts // shard.num_hosts
    if flags.use_synthetic_data:
      dataset = self._synthetic(size * parts, shard)
    else:
      dataset = imagenet_input.evaluation_dataset(
        self._split(self._evaluated_split),
        self._settings(size * parts, shard),
        count if parts > 1 else None,
      )
    places = tf.range(size, dtype=tf.int64)

    def limit(number: Tensor, batch: Batch) -> dict[str, Tensor]:
      first = (number * shard.num_hosts + shard.host) * size
      wanted = first + places < flags.num_eval_images
      valid = tf.where(wanted, batch["valid"], 0.0)
      return {**batch, "valid": valid}

    return dataset.take(count).enumerate().map(limit)

  def check_evaluation(self) -> None:
    """Checks that there are images to evaluate on, before hours of training.

    Raises:
      ValueError: if no file holds an image.
      OSError: if there are no files, or they cannot be read.
    """
    if not self._flags.use_synthetic_data:
      self._split(self._evaluated_split)

  def diagnose_evaluation(self) -> str | None:
    """The first damaged image of the split that is evaluated on."""
    if self._flags.use_synthetic_data:
      return None
    shards = self._split(self._evaluated_split)
    settings = self._settings(1, InputShard())
    return _advice(corrupt_records.find_corrupt_record(shards, settings))

  @property
  def _evaluated_split(self) -> str:
    return "train" if self._flags.eval_on_train else "validation"

  def _split(self, split: str) -> Shards:
    if not self._flags.data_directory:
      raise ValueError(
        "`data_directory` must be given, or `use_synthetic_data`."
      )
    if split not in self._shards:
      shards = find_shards(
        self._flags.data_directory, split, self._flags.num_label_classes
      )
      check_images(shards, split, self._flags.skip_corrupt_records)
      self._shards[split] = shards
    return self._shards[split]

  def _synthetic(self, batch_size: int, shard: InputShard) -> tf.data.Dataset:
    settings = self._settings(batch_size, shard)
    return imagenet_input.synthetic_dataset(
      settings, self._flags.num_label_classes
    )

  def _settings(self, batch_size: int, shard: InputShard) -> InputSettings:
    """The input settings of one host, with the batch size of one replica."""
    flags = self._flags
    return InputSettings(
      batch_size // shard.num_replicas,
      flags.image_size,
      bfloat16=flags.precision == "bfloat16",
      seed=flags.seed,
      skip_corrupt_records=flags.skip_corrupt_records,
      num_hosts=shard.num_hosts,
      host=shard.host,
      parallel_calls=flags.num_parallel_calls,
    )


def _after(batch: Batch) -> Tensor:
  """The cursor behind a training batch, in a graph."""
  return tf.stack([batch["epoch"][-1], batch["record"][-1] + 1])


def _advice(found: CorruptRecord | None) -> str | None:
  return found.advice if found else None
