# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker of the input: images per second of one core, JPEG to batch.

The whole process stays on one core.
"""

import atexit
import os
import pathlib
import tempfile
import time
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import numpy as np
import protocol
import tensorflow as tf

from rigl.imagenet_resnet.input import imagenet_input, shards
from rigl.imagenet_resnet.input.input_settings import InputSettings

Tensor = Any

_QUALITY = 92
# Batches after which all buffers of a pipeline are full.
_WARM_UP = 4


def batches(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Batches of a pipeline over the same JPEGs.

  Args:
    settings: the settings of `input_speed.py`.

  Returns:
    The unit, whose seconds are of an image, and its information.
  """
  if hasattr(os, "sched_setaffinity"):
    # Before TensorFlow starts its threads, which inherit it.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  directory = tempfile.TemporaryDirectory()
  atexit.register(directory.cleanup)
  num_bytes = _write(pathlib.Path(directory.name), settings)
  files = shards.find_shards(directory.name, "train")
  dataset = PIPELINES[settings["pipeline"]](files, settings)
  size = settings["batch_size"]
  count = settings["num_images"] // size

  def unit() -> float:
    # It ends with the unit, and its threads with it: they would fetch batches
    # ahead, in the turns of the others and to be had for nothing in the next.
    iterator = iter(dataset)
    for _ in range(_WARM_UP):
      next(iterator)
    start = time.perf_counter()
    for _ in range(count):
      next(iterator)
    return (time.perf_counter() - start) / (count * size)

  unit()
  kib = num_bytes / settings["num_images"] / 1024
  return unit, {"library": f"tensorflow {tf.__version__}", "kib_an_image": kib}


def _write(directory: pathlib.Path, settings: protocol.Settings) -> int:
  """Writes a file of JPEGs; returns their bytes."""
  rng, total = np.random.default_rng(settings["seed"]), 0
  path = str(directory / "train-00000-of-00001")
  with tf.io.TFRecordWriter(path) as writer:
    for label in range(1, settings["num_images"] + 1):
      image = _picture(rng, settings["height"], settings["width"])
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
      features = tf.train.Features(feature=features)
      writer.write(tf.train.Example(features=features).SerializeToString())
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


def _ours(files: shards.Shards, settings: protocol.Settings) -> tf.data.Dataset:
  """The training pipeline, as the script has it."""
  return imagenet_input.training_dataset(
    files,
    InputSettings(
      settings["batch_size"],
      settings["image_size"],
      seed=settings["seed"],
      shuffle_records=settings["num_images"],
    ),
  )


def _plain(
  files: shards.Shards, settings: protocol.Settings
) -> tf.data.Dataset:
  """Decodes whole images and resizes them, bicubically as well."""
  size = settings["image_size"]

  def image(record: Tensor) -> tuple[Tensor, Tensor]:
    jpeg, label = files.parse(record)
    pixels = tf.io.decode_jpeg(jpeg, channels=3)
    return tf.image.resize(pixels, [size, size], settings["resize"]), label

  records = tf.data.TFRecordDataset(list(files.paths)).repeat()
  images = records.map(image, tf.data.AUTOTUNE)
  return images.batch(settings["batch_size"]).prefetch(2)


PIPELINES = {"ours": _ours, "plain": _plain}

if __name__ == "__main__":
  protocol.main({"batches": batches}, __doc__)
