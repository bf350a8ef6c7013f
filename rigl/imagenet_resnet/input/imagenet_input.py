# SPDX-License-Identifier: Apache-2.0
"""Batches of ImageNet: an endless stream for training, one pass for evaluation.

The records of a training batch and their crops are a function of the settings,
the seed and a data cursor, so a resumed run continues with the same images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rigl import files
from rigl.imagenet_resnet.input import preprocessing
from rigl.imagenet_resnet.input.shards import CorruptRecord, Shards
from rigl.types import Batch, Tensor

_CYCLE_LENGTH = 64
_SHUFFLE_RECORDS = 1024
_FOREVER = np.iinfo(np.int64).max
# Damaged records that a search passes over if they are left out.
_MAX_SKIPPED = 10_000
_EPOCH_STRIDE = 1_000_003  # Keeps the seeds of epochs apart.


class DataCursor(NamedTuple):
  """A cursor: how far the training data has been read.

  Attributes:
    epoch: passes over the files of this host before.
    record: records of this epoch before.
  """

  epoch: int = 0
  record: int = 0


@dataclasses.dataclass(frozen=True)
class InputSettings:
  """Settings of the input.

  Attributes:
    batch_size: images per batch of this host.
    image_size: height and width of the images.
    bfloat16: whether images are bfloat16 instead of float32.
    seed: decides the order of the images and their crops.
    skip_corrupt_records: whether images that cannot be decoded, and what
      follows a damaged record in its file, are left out instead of raising.
    num_hosts: number of hosts that share the files.
    host: number of this one, from 0.
    parallel_calls: images decoded at a time. None: TensorFlow tunes it.
    shuffle_records: size of the buffer that training records are drawn from.

  Raises:
    ValueError: if a setting is not as described.
  """

  batch_size: int
  image_size: int = preprocessing.IMAGE_SIZE
  bfloat16: bool = False
  seed: int = 0
  skip_corrupt_records: bool = False
  num_hosts: int = 1
  host: int = 0
  parallel_calls: int | None = None
  shuffle_records: int = _SHUFFLE_RECORDS

  def __post_init__(self) -> None:
    for name in ("batch_size", "image_size", "num_hosts", "shuffle_records"):
      if getattr(self, name) < 1:
        raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}.")
    if not 0 <= self.host < self.num_hosts:
      raise ValueError(
        f"`host` must be in [0, {self.num_hosts - 1}], got {self.host}."
      )

  @property
  def dtype(self) -> tf.DType:
    """The type of the images."""
    return tf.bfloat16 if self.bfloat16 else tf.float32


def training_dataset(
  shards: Shards, settings: InputSettings, start: DataCursor | None = None
) -> tf.data.Dataset:
  """Batches without end, in an order that is new every epoch.

  Resuming in the middle of an epoch reads the records before that place once
  more, but does not decode them.

  Args:
    shards: the files.
    settings: settings of the input.
    start: where to begin. None: at the beginning.

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
    seed = tf.stack([_epoch_seed(settings, place["epoch"]), place["record"]])
    image = preprocessing.training_image(jpeg, seed, settings.image_size)
    return {"images": tf.cast(image, settings.dtype), "labels": label, **place}

  records = _epochs(shards.records, shards, settings, first)
  images = _decoded(records, crop, settings)
  batches = images.batch(settings.batch_size, drop_remainder=True)
  batches = batches.map(_with_classes)
  endless = tf.data.experimental.assert_cardinality(
    tf.data.INFINITE_CARDINALITY
  )
  return batches.apply(endless).prefetch(2)


def find_corrupt_record(
  shards: Shards, settings: InputSettings, start: DataCursor | None = None
) -> CorruptRecord | None:
  """Finds the record that a dataset failed at; errors of TensorFlow do not.

  Args:
    shards: the files.
    settings: settings of the input.
    start: the cursor behind the last training batch; the record is looked for
      in the batch that follows. None: in all files.

  Returns:
    The first damaged record, None if there is none.
  """
  skips = settings.skip_corrupt_records
  if start is None:
    found = _wrong_labels(shards) if skips else shards.corrupt_records()
    return next(found, None)
  records = _epochs(shards.placed_records, shards, settings, start)
  used = 0
  try:
    for _, element in records.take(settings.batch_size + _MAX_SKIPPED):
      damage = _damage(shards, element)
      if damage and (damage.is_label or not skips):
        return damage
      used += damage is None
      if used == settings.batch_size:
        return None
  except tf.errors.OpError:  # The file itself is damaged.
    return next(shards.corrupt_records(decode=False), None)
  return None


def _wrong_labels(shards: Shards) -> Iterator[CorruptRecord]:
  """All records whose labels are wrong, in files that may be damaged."""
  for path in shards.paths:
    records = shards.placed_records(tf.constant(path))
    for element in records.ignore_errors():
      damage = _damage(shards, element, decode=False)
      if damage:
        yield damage


def _damage(
  shards: Shards, element: Mapping[str, Tensor], decode: bool = True
) -> CorruptRecord | None:
  path, offset = element["path"].numpy(), element["offset"].numpy()
  return shards.damage(path.decode(), int(offset), element["record"], decode)


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

  records = _interleaved(shards.records, list(shards.paths), settings)
  if settings.num_hosts > 1:
    records = _every_nth_batch(records, settings)
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


def _epochs(
  read: Callable[[Tensor], tf.data.Dataset],
  shards: Shards,
  settings: InputSettings,
  start: DataCursor,
) -> tf.data.Dataset:
  """(place, what `read` makes of a file) from a cursor on, without end."""

  def epoch_records(epoch: Tensor) -> tf.data.Dataset:
    seed = _epoch_seed(settings, epoch)
    # Every host makes the same order and takes its share of it.
    order = tf.random.experimental.stateless_shuffle(
      tf.constant(shards.paths), tf.stack([seed, tf.constant(0, tf.int64)])
    )
    paths = order[settings.host :: settings.num_hosts]
    records = _interleaved(read, paths, settings)
    # Without this, `tf.random.set_seed` of the process would change the order.
    tf.compat.v1.get_default_graph().seed = None
    records = records.shuffle(
      settings.shuffle_records, seed, reshuffle_each_iteration=False
    ).enumerate()
    # In a TF1 graph `==` compares objects.
    is_first = tf.equal(epoch, start.epoch)
    skipped = tf.where(is_first, start.record, 0)
    return records.skip(tf.cast(skipped, tf.int64)).map(
      lambda record, element: ({"epoch": epoch, "record": record}, element)
    )

  epochs = tf.data.Dataset.range(start.epoch, _FOREVER)
  epochs = epochs.take_while(lambda _: _has_record(shards))
  return epochs.flat_map(epoch_records)


def _has_record(shards: Shards) -> Tensor:
  """Whether a file has a record, bool scalar.

  Epochs without one, after files were removed, would follow each other forever,
  and no signal would reach the process.
  """
  paths = tf.data.Dataset.from_tensor_slices(list(shards.paths))
  found = paths.filter(_is_readable).flat_map(tf.data.TFRecordDataset)
  first = found.ignore_errors().take(1)
  return first.reduce(0, lambda number, _: number + 1) > 0


def _is_readable(path: Tensor) -> Tensor:
  """Whether a file can be opened, bool scalar.

  A data set that leaves out errors tries to open a missing file forever.
  """
  found = tf.numpy_function(files.is_readable, [path], tf.bool)
  return tf.ensure_shape(found, [])


def _epoch_seed(settings: InputSettings, epoch: Tensor) -> Tensor:
  return tf.cast(settings.seed + _EPOCH_STRIDE * epoch, tf.int64)


def _every_nth_batch(
  records: tf.data.Dataset, settings: InputSettings
) -> tf.data.Dataset:
  """The records of this host's batches; hosts take batches in turn."""

  def is_own(number: Tensor, _: Tensor) -> Tensor:
    batch = number // settings.batch_size
    return batch % settings.num_hosts == settings.host

  return records.enumerate().filter(is_own).map(lambda _, record: record)


def _interleaved(
  read: Callable[[Tensor], tf.data.Dataset],
  paths: Tensor | list[str],
  settings: InputSettings,
) -> tf.data.Dataset:
  """The records of all files, some from each in turn."""

  def records(path: Tensor) -> tf.data.Dataset:
    found = read(path)
    if settings.skip_corrupt_records:
      found = found.ignore_errors(log_warning=True)
    return found

  names = tf.data.Dataset.from_tensor_slices(paths)
  if settings.skip_corrupt_records:
    names = names.filter(_is_readable)
  return names.interleave(
    records,
    cycle_length=_CYCLE_LENGTH,
    num_parallel_calls=tf.data.AUTOTUNE,
    deterministic=True,
  )


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
  """Fails at labels without a class; the host checks them, batch by batch.

  On a device, such a label would change no weight or stop the program without
  a name.
  """
  check = tf.debugging.Assert(
    tf.reduce_all(batch["labels"] >= 0), ["a label has no class"]
  )
  with tf.control_dependencies([check]):
    return {**batch, "labels": tf.identity(batch["labels"])}


def _filled(batch: Mapping[str, Tensor], size: int) -> Batch:
  """Fills a batch with zeros."""

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
