# SPDX-License-Identifier: Apache-2.0
"""Order of the records that a host reads.

It is a function of the seed and of the epoch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rigl import files
from rigl.imagenet_resnet.input.input_settings import DataCursor, InputSettings
from rigl.imagenet_resnet.input.shards import Shards
from rigl.types import Tensor

_CYCLE_LENGTH = 64
_FOREVER = np.iinfo(np.int64).max
_EPOCH_STRIDE = 1_000_003  # Keeps the seeds of epochs apart.


def epochs(
  read: Callable[[Tensor], tf.data.Dataset],
  shards: Shards,
  settings: InputSettings,
  start: DataCursor,
) -> tf.data.Dataset:
  """The records of all epochs from a cursor on, without end.

  Args:
    read: makes a data set of the path of a file.
    shards: the files.
    settings: settings of the input.
    start: the cursor.

  Returns:
    Data set of pairs: {`epoch`, `record`} of an element, and the element.
  """

  def epoch_records(epoch: Tensor) -> tf.data.Dataset:
    seed = epoch_seed(settings, epoch)
    # Every host makes the same order and takes its share of it.
    order = tf.random.experimental.stateless_shuffle(
      tf.constant(shards.paths), tf.stack([seed, tf.constant(0, tf.int64)])
    )
    paths = order[settings.host :: settings.num_hosts]
    records = interleaved(read, paths, settings)
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

  numbers = tf.data.Dataset.range(start.epoch, _FOREVER)
  numbers = numbers.take_while(lambda _: _has_record(shards))
  return numbers.flat_map(epoch_records)


def interleaved(
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


def batches_of_host(
  records: tf.data.Dataset, settings: InputSettings
) -> tf.data.Dataset:
  """The records of this host's batches; the hosts take batches in turn."""

  def is_own(number: Tensor, _: Tensor) -> Tensor:
    batch = number // settings.batch_size
    return batch % settings.num_hosts == settings.host

  return records.enumerate().filter(is_own).map(lambda _, record: record)


def epoch_seed(settings: InputSettings, epoch: Tensor) -> Tensor:
  """The seed of an epoch, int64 scalar."""
  return tf.cast(settings.seed + _EPOCH_STRIDE * epoch, tf.int64)


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
