# SPDX-License-Identifier: Apache-2.0
"""Settings of the ImageNet input, and the cursor of its training data."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from rigl.imagenet_resnet.input import preprocessing

_SHUFFLE_RECORDS = 1024


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
    parallel_calls: images decoded at a time. None: TensorFlow chooses.
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
