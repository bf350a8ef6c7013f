"""The data of a run on ImageNet, as its flags say."""

from __future__ import annotations

import os
import zlib
from typing import Any

import tensorflow as tf

from rigl.imagenet_resnet import imagenet_input
from rigl.imagenet_resnet.imagenet_input import InputSettings, Position
from rigl.imagenet_resnet.settings import ImagenetSettings
from rigl.imagenet_resnet.shards import Shards, find_shards
from rigl.training.stream_sources import Place, StreamSource

Tensor = Any


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
    """Tells one set of training files from another."""
    if self._flags.use_synthetic_data:
      return "synthetic"
    names = [os.path.basename(path) for path in self._split("train").paths]
    return f"{zlib.crc32(' '.join(names).encode()):08x}"

  def train_source(self) -> StreamSource:
    """The training batches.

    Raises:
      ValueError: if `data_directory` is missing.
      FileNotFoundError: if it holds no training files.
    """
    flags = self._flags
    settings = self._settings(flags.train_batch_size)
    batches = flags.num_train_images / flags.train_batch_size
    if flags.use_synthetic_data:
      return StreamSource(
        lambda _: imagenet_input.synthetic_dataset(
          settings, flags.num_label_classes
        ),
        lambda _: tf.zeros([2], tf.int64),
        Position(),
        batches,
      )
    shards = self._split("train")

    def make(place: Place) -> tf.data.Dataset:
      return imagenet_input.training_dataset(shards, settings, Position(*place))

    def explain(place: Place) -> str | None:
      found = imagenet_input.find_corrupt_record(
        shards, settings, Position(*place)
      )
      return _advice(found)

    return StreamSource(make, _after, Position(), batches, explain)

  def evaluation_batches(self) -> tf.data.Dataset:
    """The images to evaluate on, at most `num_eval_images`.

    Raises:
      ValueError: if `data_directory` is missing.
      FileNotFoundError: if it holds no files of the split.
    """
    flags = self._flags
    size = min(flags.eval_batch_size, flags.num_eval_images)
    settings = self._settings(size)
    count = -(-flags.num_eval_images // size)
    if flags.use_synthetic_data:
      dataset = imagenet_input.synthetic_dataset(
        settings, flags.num_label_classes
      )
    else:
      shards = self._split(self._evaluated_split)
      dataset = imagenet_input.evaluation_dataset(shards, settings)
    places = tf.range(size, dtype=tf.int64)

    def limit(number: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
      wanted = number * size + places < flags.num_eval_images
      valid = tf.where(wanted, batch["valid"], 0.0)
      return {**batch, "valid": valid}

    return dataset.take(count).enumerate().map(limit)

  def explain_evaluation(self) -> str | None:
    """The first damaged image of the split that is evaluated on."""
    if self._flags.use_synthetic_data:
      return None
    shards = self._split(self._evaluated_split)
    settings = self._settings(1)
    return _advice(imagenet_input.find_corrupt_record(shards, settings))

  @property
  def _evaluated_split(self) -> str:
    return "train" if self._flags.eval_on_train else "validation"

  def _split(self, split: str) -> Shards:
    if not self._flags.data_directory:
      raise ValueError(
        "`data_directory` must be given, or `use_synthetic_data`."
      )
    if split not in self._shards:
      self._shards[split] = find_shards(self._flags.data_directory, split)
    return self._shards[split]

  def _settings(self, batch_size: int) -> InputSettings:
    flags = self._flags
    return InputSettings(
      batch_size,
      flags.image_size,
      bfloat16=flags.precision == "bfloat16",
      seed=flags.seed,
      skip_corrupt_records=flags.skip_corrupt_records,
      parallel_calls=flags.num_parallel_calls,
    )


def _after(batch: dict[str, Tensor]) -> Tensor:
  """The position behind a training batch, in a graph."""
  return tf.stack([batch["epoch"][-1], batch["record"][-1] + 1])


def _advice(found: Any) -> str | None:
  if found is None:
    return None
  return f"{found}; --skip_corrupt_records leaves it out."
