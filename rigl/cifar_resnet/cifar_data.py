# SPDX-License-Identifier: Apache-2.0
"""Reads CIFAR-10 and CIFAR-100 and makes synthetic images, as NumPy arrays.

`ArraySource` batches and shuffles them; `augment` standardises and crops them.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np

from rigl import files
from rigl.cifar_resnet.class_names import CIFAR10, CIFAR100
from rigl.error_text import one_line
from rigl.file_kinds import HEAD_BYTES, kind_of

IMAGE_SHAPE = (32, 32, 3)
_PIXEL_BYTES = 32 * 32 * 3


@dataclasses.dataclass(frozen=True)
class CifarVersion:
  """A data set: its classes and its official binary files.

  Attributes:
    title: its name.
    tfds_name: its name in TFDS, and the value of `--dataset`.
    class_names: names of the classes, by label.
    folder: folder of the official archive.
    train_files: files of training records in it.
    test_file: file of test records.
    label_bytes: bytes before the planes of an image, of which the last is the
      label. CIFAR-100 has the label of the superclass before it.
  """

  title: str
  tfds_name: str
  class_names: tuple[str, ...]
  folder: str
  train_files: tuple[str, ...]
  test_file: str
  label_bytes: int = 1

  @property
  def num_classes(self) -> int:
    """The number of classes."""
    return len(self.class_names)

  @property
  def file_names(self) -> tuple[str, ...]:
    """All files."""
    return (*self.train_files, self.test_file)

  @property
  def record_bytes(self) -> int:
    """Length of a record: labels, and the planes of an image, red first."""
    return self.label_bytes + _PIXEL_BYTES

  @property
  def advice(self) -> str:
    """What to do if the data are not there."""
    shown = ", ..., ".join([self.train_files[0], self.test_file])
    return (
      "`--data_directory` must hold the files of the official binary version "
      f"({shown}, or a folder {self.folder} with them) or be a TFDS directory "
      f"with {self.tfds_name}; `--use_synthetic_data` needs none."
    )


VERSIONS = {
  version.tfds_name: version
  for version in (
    CifarVersion(
      "CIFAR-10",
      "cifar10",
      CIFAR10,
      "cifar-10-batches-bin",
      tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
      "test_batch.bin",
    ),
    CifarVersion(
      "CIFAR-100",
      "cifar100",
      CIFAR100,
      "cifar-100-binary",
      ("train.bin",),
      "test.bin",
      label_bytes=2,
    ),
  )
}


class CifarData(NamedTuple):
  """Training and test split.

  Attributes:
    train_images: uint8 [50000, 32, 32, 3], red, green and blue.
    train_labels: int32 [50000], classes from 0.
    test_images: uint8 [10000, 32, 32, 3].
    test_labels: int32 [10000].
  """

  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray


def load_cifar(
  directory: str | os.PathLike = "", dataset: str = "cifar10"
) -> CifarData:
  """Loads CIFAR-10 or CIFAR-100 (Krizhevsky, 2009).

  Args:
    directory: the official binary files, or a TFDS directory. Empty: TFDS's
      own directory, into which it downloads the data if they are not there.
    dataset: `cifar10`, or `cifar100`, with its 100 fine labels.

  Returns:
    Images and labels.

  Raises:
    ValueError: if the data are not there, damaged or of the other data set.
    OSError: if a file cannot be read.
  """
  version = _version(dataset)
  if os.fspath(directory):
    folder = files.path(directory, "data_directory")
    if not folder.is_dir():
      what = " but a file" if folder.exists() else ""
      raise ValueError(f"`{folder}` is not a directory{what}. {version.advice}")
    for place in (folder, folder / version.folder):
      if any((place / name).exists() for name in version.file_names):
        return _load_binary(place, version)
    _check_other_versions(folder, version)
  return _load_tfds(os.fspath(directory), version)


def synthetic_cifar(
  num_train: int = 1024,
  num_test: int = 256,
  seed: int = 0,
  dataset: str = "cifar10",
) -> CifarData:
  """Makes data of CIFAR's shapes that are easy to learn.

  Every class has a random coarse pattern of 4x4 colours; each image is the
  pattern of its class plus noise.

  Args:
    num_train: number of training images, at least 1.
    num_test: number of test images, at least 1.
    seed: equal seeds give equal data.
    dataset: the data set that the number of classes is taken from, a key of
      `VERSIONS`.

  Returns:
    Arrays with the dtypes of the real data.

  Raises:
    ValueError: if an argument is not as described.
  """
  for name, count in (("num_train", num_train), ("num_test", num_test)):
    if count < 1:
      raise ValueError(f"`{name}` must be at least 1, got {count}.")
  num_classes = _version(dataset).num_classes
  generator = np.random.Generator(np.random.Philox(key=seed))
  coarse = generator.uniform(0, 255, [num_classes, 4, 4, 3])
  patterns = coarse.repeat(8, 1).repeat(8, 2)
  splits: list[np.ndarray] = []
  for count in (num_train, num_test):
    labels = generator.integers(num_classes, size=count, dtype=np.int32)
    noise = generator.normal(0, 40, [count, *IMAGE_SHAPE])
    images = np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8)
    splits += [images, labels]
  return CifarData(*splits)


def _version(dataset: str) -> CifarVersion:
  if dataset not in VERSIONS:
    raise ValueError(
      f"`dataset` must be one of {[*VERSIONS]}, got {dataset!r}."
    )
  return VERSIONS[dataset]


def _check_other_versions(folder: files.AnyPath, version: CifarVersion) -> None:
  """Names the flag if a directory holds another data set."""
  for other in VERSIONS.values():
    for place in (folder, folder / other.folder):
      if other is not version and all(
        (place / name).exists() for name in other.file_names
      ):
        raise ValueError(
          f"`{place}` holds {other.title}, not {version.title}; "
          f"--dataset={other.tfds_name} trains on it."
        )


def _load_binary(folder: files.AnyPath, version: CifarVersion) -> CifarData:
  missing = [
    name for name in version.file_names if not (folder / name).is_file()
  ]
  if missing:
    raise ValueError(f"`{folder}` lacks {', '.join(missing)}. {version.advice}")
  train = [_read_binary(folder / name, version) for name in version.train_files]
  images, labels = (np.concatenate(part) for part in zip(*train, strict=True))
  test = _read_binary(folder / version.test_file, version)
  return CifarData(images, labels, *test)


def _read_binary(
  path: files.AnyPath, version: CifarVersion
) -> tuple[np.ndarray, np.ndarray]:
  """Reads the images and labels of a file."""
  content = np.frombuffer(path.read_bytes(), np.uint8)
  size = version.record_bytes
  if len(content) == 0 or len(content) % size:
    kind = kind_of(content[:HEAD_BYTES].tobytes())
    raise ValueError(
      f"`{path}` is damaged: expected records of {size} bytes, found "
      f"{len(content)} bytes{': ' + kind if kind else ''}."
    )
  records = content.reshape(-1, size)
  labels = records[:, version.label_bytes - 1].astype(np.int32)
  wrong = np.flatnonzero(labels >= version.num_classes)
  if wrong.size:
    raise ValueError(
      f"`{path}` is damaged: expected labels in [0, "
      f"{version.num_classes - 1}], found {labels[wrong[0]]} in record "
      f"{wrong[0]}."
    )
  planes = records[:, version.label_bytes :].reshape(-1, 3, 32, 32)
  return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _load_tfds(directory: str, version: CifarVersion) -> CifarData:
  # It takes seconds to import, which the other sources need not wait for.
  import tensorflow_datasets as tfds

  try:
    train, test = (
      tfds.as_numpy(
        tfds.load(
          version.tfds_name,
          split=split,
          data_dir=directory or None,
          batch_size=-1,
          download=not directory,
        )
      )
      for split in ("train", "test")
    )
  except Exception as error:  # Whatever the network or the disk is missing.
    _check_format(directory, version)
    where = f"`{directory}`" if directory else "TFDS's own directory"
    raise ValueError(
      f"{version.title} is not in {where}, and TFDS says: "
      f"{one_line(error, 200)} {version.advice}"
    ) from error
  return CifarData(
    *_arrays(train, "train", version), *_arrays(test, "test", version)
  )


def _check_format(directory: str, version: CifarVersion) -> None:
  """Names the cure if TFDS stored the data in a format without `tf.data`."""
  folder = files.path(directory) / version.tfds_name
  versions = folder.iterdir() if directory and folder.is_dir() else iter(())
  for place in versions:
    for path in place.glob(f"{version.tfds_name}-*.array_record*"):
      raise ValueError(
        f"`{path}` is a file of the format array_record, which is not read; "
        f"make TFRecords of it with tfds build {version.tfds_name} "
        "--file_format=tfrecord."
      )


def _arrays(
  split: Any, name: str, version: CifarVersion
) -> tuple[np.ndarray, np.ndarray]:
  """The images and labels of a split of TFDS."""
  images, labels = np.asarray(split["image"]), np.asarray(split["label"])
  if not len(images):
    raise ValueError(f"{version.title} of TFDS has no {name} image.")
  wrong = np.flatnonzero((labels < 0) | (labels >= version.num_classes))
  if wrong.size:
    raise ValueError(
      f"{version.title} of TFDS: expected labels in [0, "
      f"{version.num_classes - 1}], found {labels[wrong[0]]} in {name} record "
      f"{wrong[0]}."
    )
  return images, labels.astype(np.int32)
