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
import jpegs
import protocol
import tensorflow as tf

from rigl.imagenet_resnet.input import imagenet_input, shards
from rigl.imagenet_resnet.input.find_shards import find_shards
from rigl.imagenet_resnet.input.input_settings import InputSettings

Tensor = Any

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
  num_bytes = jpegs.write_records(
    pathlib.Path(directory.name),
    settings["num_images"],
    settings["height"],
    settings["width"],
    settings["seed"],
  )
  files = find_shards(directory.name, "train")
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
