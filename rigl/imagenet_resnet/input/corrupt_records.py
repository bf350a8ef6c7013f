# SPDX-License-Identifier: Apache-2.0
"""Corrupt records: finds the record that a data set of images failed at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import tensorflow as tf

from rigl.imagenet_resnet.input import record_order
from rigl.imagenet_resnet.input.input_settings import DataCursor, InputSettings
from rigl.imagenet_resnet.input.shards import CorruptRecord, Shards
from rigl.types import Tensor

# The most damaged records that a search passes over, if training skips them.
_MAX_SKIPPED = 10_000


def find_corrupt_record(
  shards: Shards, settings: InputSettings, start: DataCursor | None = None
) -> CorruptRecord | None:
  """Finds the record that a data set failed at.

  Errors of TensorFlow do not name it.

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
  records = record_order.epochs(shards.placed_records, shards, settings, start)
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
