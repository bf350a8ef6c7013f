# SPDX-License-Identifier: Apache-2.0
"""Writes CIFAR-10 as TFRecords of JPEGs, like those of ImageNet.

  python scripts/cifar10_to_tfrecords.py --data_directory=DIRECTORY \
    --output_dir=TFRECORDS --num_train_images=2000 --num_eval_images=1000

makes data that the ImageNet script learns from in minutes: images of the
official binary files (or of TFDS) are scaled up and written to
`train-*-of-*` and `validation-*-of-*`, with labels from 1 to 10. They are the
first ones of their split.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import numpy as np
import tensorflow as tf

from rigl import files
from rigl.cifar_resnet.cifar_data import load_cifar

_QUALITY = 95


def write_split(
  directory: pathlib.Path,
  split: str,
  images: np.ndarray,
  labels: np.ndarray,
  size: int,
  num_files: int,
) -> None:
  """Writes the TFRecords of a split.

  Args:
    directory: the directory to write to; it is made if it does not exist.
    split: `train` or `validation`.
    images: uint8 [n, height, width, 3].
    labels: classes from 0, int [n].
    size: height and width that the images are scaled to.
    num_files: how many files; images go to them in turn.
  """
  directory.mkdir(parents=True, exist_ok=True)
  for number in range(num_files):
    path = directory / f"{split}-{number:05}-of-{num_files:05}"
    chosen = slice(number, None, num_files)
    with (
      files.replacing(path) as temporary,
      tf.io.TFRecordWriter(str(temporary)) as writer,
    ):
      for image, label in zip(images[chosen], labels[chosen], strict=True):
        writer.write(_record(_jpeg(image, size), int(label)))


def _jpeg(image: np.ndarray, size: int) -> bytes:
  scaled = tf.image.resize(image, [size, size], "bicubic")
  scaled = tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)
  return tf.io.encode_jpeg(scaled, quality=_QUALITY).numpy()


def _record(jpeg: bytes, label: int) -> bytes:
  features = {
    "image/encoded": tf.train.Feature(
      bytes_list=tf.train.BytesList(value=[jpeg])
    ),
    "image/class/label": tf.train.Feature(
      int64_list=tf.train.Int64List(value=[label + 1])
    ),
  }
  example = tf.train.Example(features=tf.train.Features(feature=features))
  return example.SerializeToString()


def main(arguments: Sequence[str] | None = None) -> int:
  """Writes both splits."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument(
    "--data_directory",
    default="",
    help="the official binary files or a TFDS directory; default: TFDS's own",
  )
  parser.add_argument("--output_dir", required=True, help="folder to write to")
  parser.add_argument(
    "--num_train_images",
    type=int,
    default=50000,
    help="training images to write, the first ones (default: 50000)",
  )
  parser.add_argument(
    "--num_eval_images",
    type=int,
    default=10000,
    help="test images to write, the first ones (default: 10000)",
  )
  parser.add_argument(
    "--size",
    type=int,
    default=72,
    help="height and width of the JPEGs (default: 72)",
  )
  parser.add_argument(
    "--num_files", type=int, default=8, help="files per split (default: 8)"
  )
  args = parser.parse_args(arguments)
  for name in ("num_train_images", "num_eval_images", "size", "num_files"):
    if getattr(args, name) < 1:
      parser.error(f"--{name} must be at least 1, got {getattr(args, name)}.")
  try:
    output = files.on_disk(args.output_dir, "output_dir")
    data = load_cifar(args.data_directory)
    for split, images, labels, count in (
      ("train", *data[:2], args.num_train_images),
      ("validation", *data[2:], args.num_eval_images),
    ):
      chosen = (images[:count], labels[:count], args.size, args.num_files)
      write_split(output, split, *chosen)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(f"Wrote TFRecords of CIFAR-10 to {args.output_dir}.")
  return 0


if __name__ == "__main__":
  sys.exit(main())
