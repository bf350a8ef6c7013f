# SPDX-License-Identifier: Apache-2.0
"""Batches of ImageNet: an endless stream for training, one pass for evaluation.

The records of a training batch and their crops are a function of the settings,
the seed and a data cursor, so a resumed run continues with the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from rigl.imagenet_resnet.input import preprocessing, record_order
from rigl.imagenet_resnet.input.input_settings import DataCursor, InputSettings
from rigl.imagenet_resnet.input.shards import Shards
from rigl.types import Batch, Tensor


def training_dataset(
  shards: Shards, settings: InputSettings, start: DataCursor | None = None
) -> tf.data.Dataset:
  """Batches without end, in an order that is new every epoch.

  Resuming in the middle of an epoch reads the records before that place once
  more, but does not decode them.

  Args:
    shards: the files.
    settings: settings of the input.
    start: the cursor to begin at. None: the beginning.

  Returns:
    Dataset of {`images`: [batch, size, size, 3], values in [0, 255]; `labels`:
    int32 [batch]; `epoch`, `record`: int64 [batch], the place of each image}.

  Raises:
    ValueError: if there are fewer files than hosts.
  """
  _check_hosts(shards, settings)
  first = start or DataCursor()

  def crop(place: Mapping[str, Tensor], record: Tensor) -> Batch:
    jpeg, label = shards.parse(record)
    seed = tf.stack(
      [record_order.epoch_seed(settings, place["epoch"]), place["record"]]
    )
    image = preprocessing.training_image(jpeg, seed, settings.image_size)
    return {"images": tf.cast(image, settings.dtype), "labels": label, **place}

  records = record_order.epochs(shards.records, shards, settings, first)
  images = _decoded(records, crop, settings)
  batches = images.batch(settings.batch_size, drop_remainder=True)
  batches = batches.map(_with_classes)
  endless = tf.data.experimental.assert_cardinality(
    tf.data.INFINITE_CARDINALITY
  )
  return batches.apply(endless).prefetch(2)


def evaluation_dataset(
  shards: Shards, settings: InputSettings, num_batches: int | None = None
) -> tf.data.Dataset:
  """All images of this host once, in the order of the files.

  Args:
    shards: the files.
    settings: settings of the input.
    num_batches: number of batches; at the end come batches without an image
      if there are fewer. All hosts must agree on it. None: as many as needed.

  Returns:
    Dataset of {`images`: as for training; `labels`: int32 [batch]; `valid`:
    float32 [batch], 0 for padding of the last batch}.

  Raises:
    ValueError: if there are fewer files than hosts.
  """
  _check_hosts(shards, settings)

  def crop(record: Tensor) -> Batch:
    jpeg, label = shards.parse(record)
    image = preprocessing.evaluation_image(jpeg, settings.image_size)
    return {
      "images": tf.cast(image, settings.dtype),
      "labels": label,
      "valid": tf.constant(1.0),
    }

  records = record_order.interleaved(
    shards.records, list(shards.paths), settings
  )
  if settings.num_hosts > 1:
    records = record_order.batches_of_host(records, settings)
  images = _decoded(records, crop, settings)
  batches = images.batch(settings.batch_size).map(
    lambda batch: _filled(_with_classes(batch), settings.batch_size)
  )
  if num_batches is not None:
    nothing = tf.data.Dataset.from_tensors(_no_images(settings)).repeat()
    batches = batches.concatenate(nothing).take(num_batches)
  return batches.prefetch(2)


def synthetic_dataset(
  settings: InputSettings, num_classes: int = 1000
) -> tf.data.Dataset:
  """One batch of random images, repeated forever: no input to wait for."""
  count, size = settings.batch_size, settings.image_size

  def draw(shape: list[int], stream: int, end: int) -> Tensor:
    # Not with NumPy, whose numbers would be constants of a graph.
    return tf.random.stateless_uniform(
      shape, [settings.seed, stream], 0, end, tf.int32, alg="philox"
    )

  batch = {
    "images": tf.cast(draw([count, size, size, 3], 0, 256), settings.dtype),
    "labels": draw([count], 1, num_classes),
    "valid": tf.ones([count]),
  }
  return tf.data.Dataset.from_tensors(batch).repeat()


def _decoded(
  records: tf.data.Dataset, crop: Callable[..., Batch], settings: InputSettings
) -> tf.data.Dataset:
  images = records.map(
    crop,
    num_parallel_calls=settings.parallel_calls or tf.data.AUTOTUNE,
    deterministic=True,
  )
  if settings.skip_corrupt_records:
    images = images.ignore_errors(log_warning=True)
  return images


def _with_classes(batch: Batch) -> Batch:
  """Checks on the host that every label of a batch is a class.

  On a device, a wrong label would change no weight, or stop the program without
  a message that names it.
  """
  check = tf.debugging.Assert(
    tf.reduce_all(batch["labels"] >= 0), ["a label has no class"]
  )
  with tf.control_dependencies([check]):
    return {**batch, "labels": tf.identity(batch["labels"])}


def _filled(batch: Mapping[str, Tensor], size: int) -> Batch:
  """A batch of a fixed size, filled up with zeros."""

  def fill(values: Tensor) -> Tensor:
    missing = size - tf.shape(values)[0]
    paddings = [[0, missing]] + [[0, 0]] * (values.shape.rank - 1)
    return tf.ensure_shape(tf.pad(values, paddings), [size, *values.shape[1:]])

  return {name: fill(values) for name, values in batch.items()}


def _no_images(settings: InputSettings) -> Batch:
  count, size = settings.batch_size, settings.image_size
  return {
    "images": tf.zeros([count, size, size, 3], settings.dtype),
    "labels": tf.zeros([count], tf.int32),
    "valid": tf.zeros([count]),
  }


def _check_hosts(shards: Shards, settings: InputSettings) -> None:
  if len(shards.paths) < settings.num_hosts:
    raise ValueError(
      f"`num_hosts` is {settings.num_hosts}, but there are only "
      f"{len(shards.paths)} files."
    )
