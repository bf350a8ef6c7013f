# SPDX-License-Identifier: Apache-2.0
"""Reads CIFAR-10 and makes synthetic images, as NumPy arrays.

`ArraySource` batches and shuffles them; `augment` standardises and crops them.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

IMAGE_SHAPE = (32, 32, 3)
NUM_CLASSES = 10

_FOLDER = "cifar-10-batches-bin"
_TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST_FILE = "test_batch.bin"
_RECORD = 1 + 32 * 32 * 3  # A label and three planes.
_ADVICE = (
  "`--data_directory` must hold the files of the official binary version "
  f"({_TRAIN_FILES[0]}, ..., {_TEST_FILE}, or a folder {_FOLDER} with them) or "
  "be a TFDS directory with cifar10; `--use_synthetic_data` needs none."
)


class CifarData(NamedTuple):
  """Training and test split.

  Attributes:
    train_images: uint8 [50000, 32, 32, 3], red, green and blue.
    train_labels: int32 [50000], classes in [0, 9].
    test_images: uint8 [10000, 32, 32, 3].
    test_labels: int32 [10000].
  """

  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray


def load_cifar10(directory: str | os.PathLike = "") -> CifarData:
  """Loads CIFAR-10 (Krizhevsky, 2009).

  Args:
    directory: the official binary files, or a TFDS directory. Empty: TFDS's
      own directory, into which it downloads the data if they are not there.

  Returns:
    Images and labels.

  Raises:
    ValueError: if the data are not there or damaged.
  """
  folder = pathlib.Path(directory)
  if os.fspath(directory):
    if not folder.is_dir():
      raise ValueError(f"`{folder}` is not a directory. {_ADVICE}")
    for place in (folder, folder / _FOLDER):
      if any((place / n).exists() for n in (*_TRAIN_FILES, _TEST_FILE)):
        return _load_binary(place)
  return _load_tfds(os.fspath(directory))


def synthetic_cifar10(
  num_train: int = 1024, num_test: int = 256, seed: int = 0
) -> CifarData:
  """Makes data of CIFAR's shapes that are easy to learn.

  Every class has a random coarse pattern of 4x4 colours; each image is the
  pattern of its class plus noise.

  Args:
    num_train: number of training images, at least 1.
    num_test: number of test images, at least 1.
    seed: equal seeds give equal data.

  Returns:
    Arrays with the dtypes of the real data.
  """
  for name, count in (("num_train", num_train), ("num_test", num_test)):
    if count < 1:
      raise ValueError(f"`{name}` must be at least 1, got {count}.")
  generator = np.random.Generator(np.random.Philox(key=seed))
  coarse = generator.uniform(0, 255, [NUM_CLASSES, 4, 4, 3])
  patterns = coarse.repeat(8, 1).repeat(8, 2)
  splits: list[np.ndarray] = []
  for count in (num_train, num_test):
    labels = generator.integers(NUM_CLASSES, size=count, dtype=np.int32)
    noise = generator.normal(0, 40, [count, *IMAGE_SHAPE])
    images = np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8)
    splits += [images, labels]
  return CifarData(*splits)


def _load_binary(folder: pathlib.Path) -> CifarData:
  missing = [
    name
    for name in (*_TRAIN_FILES, _TEST_FILE)
    if not (folder / name).is_file()
  ]
  if missing:
    raise ValueError(f"`{folder}` lacks {', '.join(missing)}. {_ADVICE}")
  train = [_read_binary(folder / name) for name in _TRAIN_FILES]
  images, labels = (np.concatenate(part) for part in zip(*train, strict=True))
  return CifarData(images, labels, *_read_binary(folder / _TEST_FILE))


def _read_binary(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Reads records of a label and the planes of an image, red first."""
  content = np.fromfile(path, np.uint8)
  if len(content) == 0 or len(content) % _RECORD:
    raise ValueError(
      f"`{path}` is damaged: expected records of {_RECORD} bytes, found "
      f"{len(content)} bytes."
    )
  records = content.reshape(-1, _RECORD)
  labels = records[:, 0].astype(np.int32)
  if labels.max() >= NUM_CLASSES:
    raise ValueError(
      f"`{path}` is damaged: expected labels in [0, 9], found {labels.max()}."
    )
  planes = records[:, 1:].reshape(-1, 3, 32, 32)
  return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _load_tfds(directory: str) -> CifarData:
  # It takes seconds to import, which the other sources need not wait for.
  import tensorflow_datasets as tfds

  try:
    train, test = (
      tfds.as_numpy(
        tfds.load(
          "cifar10",
          split=split,
          data_dir=directory or None,
          batch_size=-1,
          download=not directory,
        )
      )
      for split in ("train", "test")
    )
  except Exception as error:  # Whatever the network or the disk is missing.
    text = " ".join(str(error).split())[:200]
    where = f"`{directory}`" if directory else "TFDS's own directory"
    raise ValueError(
      f"CIFAR-10 is not in {where}, and TFDS says: {text} {_ADVICE}"
    ) from error
  return CifarData(*_arrays(train), *_arrays(test))


def _arrays(split: Any) -> tuple[np.ndarray, np.ndarray]:
  return np.asarray(split["image"]), np.asarray(split["label"], np.int32)
