# SPDX-License-Identifier: Apache-2.0
"""Tiny TFRecord files like those of ImageNet, for the tests beside it."""

import numpy as np
import tensorflow as tf


def picture(number, height=40, width=48):
  """A smooth image whose mean tells its number: uint8 [height, width, 3]."""
  rng = np.random.default_rng(number)
  waves = np.linspace(0, rng.uniform(1, 4), height)[:, None, None]
  waves = np.sin(waves + np.linspace(0, 2, width)[None, :, None] + [0, 1, 2])
  return np.uint8(60 + 40 * waves + 3 * (number % 40))


def bytes_feature(value):
  return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def int_feature(value):
  return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def example(jpeg, label, keys=("image/encoded", "image/class/label")):
  """A serialised record."""
  features = {keys[0]: bytes_feature(jpeg), keys[1]: int_feature(label)}
  features = tf.train.Features(feature=features)
  return tf.train.Example(features=features).SerializeToString()


def jpeg_of(number, **size):
  """The picture as JPEG bytes."""
  image = tf.io.encode_jpeg(picture(number, **size), quality=95)
  return image.numpy()


def write(path, records):
  """Writes a file of records; returns their offsets."""
  offsets = [0]
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)
      offsets.append(offsets[-1] + len(record) + 16)
  return offsets[:-1]


def write_split(directory, split, sizes, corrupt=()):
  """Writes files of so many records each; labels are numbers from 1.

  The records with the numbers in `corrupt` hold a JPEG without its end.
  """
  number = 0
  for index, size in enumerate(sizes):
    records = []
    for _ in range(size):
      jpeg = jpeg_of(number)
      if number in corrupt:
        jpeg = jpeg[: len(jpeg) // 2]
      records.append(example(jpeg, number + 1))
      number += 1
    write(directory / f"{split}-{index:05}-of-{len(sizes):05}", records)
