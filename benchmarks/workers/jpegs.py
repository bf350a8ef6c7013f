# SPDX-License-Identifier: Apache-2.0
"""Records of JPEGs that are as large as those of ImageNet, about 75 KB each."""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any

_QUALITY = 92


def write_records(
  directory: pathlib.Path,
  count: int,
  height: int = 375,
  width: int = 500,
  seed: int = 0,
  files: int = 1,
) -> int:
  """Writes a training split of TFRecords, each file with the same images.

  Args:
    directory: where it is written.
    count: images of a file.
    height: their height in pixels.
    width: their width in pixels.
    seed: decides the images.
    files: number of files.

  Returns:
    The bytes of the JPEGs of a file.
  """
  rng, total, records = np.random.default_rng(seed), 0, []
  for label in range(1, count + 1):
    image = _picture(rng, height, width)
    jpeg = tf.io.encode_jpeg(image, quality=_QUALITY).numpy()
    total += len(jpeg)
    features = {
      "image/encoded": tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[jpeg])
      ),
      "image/class/label": tf.train.Feature(
        int64_list=tf.train.Int64List(value=[label])
      ),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    records.append(example.SerializeToString())
  for number in range(files):
    path = directory / f"train-{number:05d}-of-{files:05d}"
    with tf.io.TFRecordWriter(str(path)) as writer:
      for record in records:
        writer.write(record)
  return total


def _picture(rng: np.random.Generator, height: int, width: int) -> Tensor:
  """Noise whose amplitude falls with its frequency, as in photographs."""
  image = tf.zeros([1, height, width, 3])
  for size in (2, 4, 8, 16, 32, 64, 128, 256):
    noise = rng.normal(size=[1, size, size, 3]).astype(np.float32)
    image += tf.image.resize(noise, [height, width], "bicubic") / size**0.7
  grain = rng.normal(size=[height, width, 1]).astype(np.float32)
  image = 128.0 + 60.0 * image[0] + 8.0 * grain
  return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
