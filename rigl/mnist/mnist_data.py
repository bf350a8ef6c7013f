# SPDX-License-Identifier: Apache-2.0
"""Reads MNIST from IDX files and makes synthetic digits, as NumPy arrays.

`ArraySource` batches and shuffles them; `MnistTask` scales them to [0, 1].
"""

import gzip
import io
import math
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rigl import files
from rigl.file_kinds import HEAD_BYTES, kind_of

PACKAGED_DIRECTORY = pathlib.Path(__file__).resolve().parent / "data"
IMAGE_SIDE = 28
NUM_PIXELS = IMAGE_SIDE * IMAGE_SIDE
NUM_CLASSES = 10

_FILE_NAMES = (
  "train-images-idx3-ubyte",
  "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte",
  "t10k-labels-idx1-ubyte",
)
_GZIP_START = b"\x1f\x8b"
_UINT8_CODE = 0x08


class MnistData(NamedTuple):
  """Training and test split; shapes as in the packaged files.

  Attributes:
    train_images: uint8 [60000, 784], rows of 28 pixels one after the other.
    train_labels: int32 [60000], digits in [0, 9].
    test_images: uint8 [10000, 784].
    test_labels: int32 [10000].
  """

  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray


def read_idx(path: str | os.PathLike) -> np.ndarray:
  """Reads one IDX file of unsigned bytes, gzip-compressed or not.

  Compression is detected from the content, whatever the name of the file.

  Args:
    path: the file.

  Returns:
    uint8 array of the shape that the header of the file states.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the gzip stream is damaged, the magic number is not that of an
      IDX file of unsigned bytes, or the file is too short or too long.
  """
  path = files.path(path)
  if not path.is_file():
    raise FileNotFoundError(f"`{path}`: expected an IDX file, found none.")
  content = _unpack(path)
  magic = content[:4]
  if len(magic) < 4:
    raise ValueError(
      f"`{path}` is truncated: expected a magic number of 4 bytes, found "
      f"{len(magic)} bytes."
    )
  if magic[:3] != bytes([0, 0, _UINT8_CODE]) or magic[3] == 0:
    raise ValueError(
      f"`{path}` has a wrong magic number: expected 0x000008NN with NN >= 1 "
      f"dimensions (unsigned bytes), found 0x{magic.hex()}{_clause(content)}."
    )
  header_size = 4 + 4 * magic[3]
  if len(content) < header_size:
    raise ValueError(
      f"`{path}` is truncated: expected a header of {header_size} bytes, found "
      f"{len(content)}."
    )
  sizes = np.frombuffer(content[4:header_size], ">u4")
  shape = tuple(int(size) for size in sizes)
  expected = header_size + math.prod(shape)
  if len(content) < expected:
    raise ValueError(
      f"`{path}` is truncated: expected {expected} bytes, found {len(content)}."
    )
  if len(content) > expected:
    raise ValueError(
      f"`{path}` has trailing bytes: expected {expected} bytes for shape "
      f"{shape}, found {len(content)}."
    )
  values = np.frombuffer(content, np.uint8, offset=header_size)
  return values.reshape(shape).copy()


def load_mnist(directory: str | os.PathLike | None = None) -> MnistData:
  """Loads the four MNIST files of a directory.

  Each file may be there under its standard name, such as
  `train-images-idx3-ubyte`, or with `.gz` after it (looked for first).

  Args:
    directory: where the files are; None or '' means the packaged ones.

  Returns:
    The images as rows of 784 bytes and their labels; a split may hold any
    number of images from one up.

  Raises:
    FileNotFoundError: the directory or one of the files is missing.
    ValueError: a file is damaged, images are not 28x28, there are not as many
      labels as images, or a label is not in [0, 9].
  """
  folder = files.path(directory or PACKAGED_DIRECTORY, "mnist")
  paths = _find_files(folder)
  train = _load_split(*paths[:2])
  test = _load_split(*paths[2:])
  return MnistData(*train, *test)


def synthetic_mnist(
  num_train: int = 1000, num_test: int = 200, seed: int = 0
) -> MnistData:
  """Makes data that looks like MNIST to a network and is easy to learn.

  Each class has a random prototype in the middle 20x20 pixels; an image is the
  prototype of its class plus noise there, and a black border as in MNIST.

  Args:
    num_train: number of training images, >= 1.
    num_test: number of test images, >= 1.
    seed: >= 0; equal seeds give equal data, other random state plays no part.

  Returns:
    Arrays with the dtypes of the real data.

  Raises:
    ValueError: an argument is out of range.
  """
  for name, count in (("num_train", num_train), ("num_test", num_test)):
    if count < 1:
      raise ValueError(f"`{name}` must be at least 1, got {count}.")
  if not 0 <= seed < 2**64:
    raise ValueError(f"`seed` must be in [0, 2**64), got {seed}.")
  prototypes = _stream(seed, 0).uniform(0, 255, [NUM_CLASSES, 20, 20])
  train = _draw_split(_stream(seed, 1), prototypes, num_train)
  test = _draw_split(_stream(seed, 2), prototypes, num_test)
  return MnistData(*train, *test)


def _clause(content: bytes) -> str:
  kind = kind_of(content[:HEAD_BYTES])
  return f": {kind}" if kind else ""


def _unpack(path: files.AnyPath) -> bytes:
  content = path.read_bytes()
  if not content.startswith(_GZIP_START):
    return content
  try:
    return _unpack_no_more_than_claimed(content)
  except EOFError as error:
    raise ValueError(
      f"`{path}` is truncated: expected a whole gzip stream, found only the "
      f"first {len(content)} bytes of one."
    ) from error
  except (gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(
      f"`{path}` is corrupt: expected a valid gzip stream, found: {error}."
    ) from error


def _unpack_no_more_than_claimed(content: bytes) -> bytes:
  """The bytes of an IDX file, and one more if there are more."""
  with gzip.open(io.BytesIO(content)) as file:
    start = file.read(4)
    sizes = file.read(4 * start[3]) if len(start) == 4 else b""
    whole = sizes[: len(sizes) // 4 * 4]
    claimed = math.prod(int(size) for size in np.frombuffer(whole, ">u4"))
    # A read to the end also compares the checksum.
    return start + sizes + b"".join(_pieces(file, claimed + 1))


def _pieces(file: gzip.GzipFile, limit: int) -> Iterator[bytes]:
  """The content of a file, up to a number of bytes."""
  while limit > 0 and (piece := file.read(min(limit, 1 << 20))):
    limit -= len(piece)
    yield piece


def _find_files(folder: files.AnyPath) -> list[files.AnyPath]:
  advice = "leave `--mnist` out to use the packaged files."
  if not folder.is_dir():
    raise FileNotFoundError(
      f"`{folder}` is not a directory; looked there for "
      f"{', '.join(_FILE_NAMES)} (each may end in .gz); {advice}"
    )
  paths, missing = [], []
  for name in _FILE_NAMES:
    candidates = [folder / f"{name}.gz", folder / name]
    existing = [path for path in candidates if path.is_file()]
    paths.extend(existing[:1])
    if not existing:
      missing.append(f"{name}.gz or {name}")
  if missing:
    raise FileNotFoundError(
      f"`{folder}` lacks MNIST files; looked for {', '.join(missing)}; {advice}"
    )
  return paths


def _load_split(
  images_path: files.AnyPath, labels_path: files.AnyPath
) -> tuple[np.ndarray, np.ndarray]:
  images, labels = read_idx(images_path), read_idx(labels_path)
  side = IMAGE_SIDE
  if images.shape[1:] != (side, side) or len(images) == 0:
    raise ValueError(
      f"`{images_path}`: expected images of shape (count >= 1, {side}, "
      f"{side}), found shape {images.shape}."
    )
  if labels.shape != images.shape[:1]:
    raise ValueError(
      f"`{labels_path}`: expected one label for each of the {len(images)} "
      f"images of `{images_path.name}`, found shape {labels.shape}."
    )
  wrong = np.flatnonzero(labels >= NUM_CLASSES)
  if wrong.size:
    raise ValueError(
      f"`{labels_path}`: expected labels in [0, 9], found {labels[wrong[0]]} "
      f"for image {wrong[0]}."
    )
  return images.reshape(-1, NUM_PIXELS), labels.astype(np.int32)


def _stream(seed: int, stream: int) -> np.random.Generator:
  """Returns the generator of a (seed, stream) pair; it shares no state."""
  key = np.array([seed, stream], np.uint64)
  return np.random.Generator(np.random.Philox(key=key))


def _draw_split(
  generator: np.random.Generator, prototypes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
  labels = generator.integers(NUM_CLASSES, size=count, dtype=np.int32)
  centre = prototypes[labels] + generator.normal(0, 40, [count, 20, 20])
  images = np.zeros([count, IMAGE_SIDE, IMAGE_SIDE], np.uint8)
  images[:, 4:24, 4:24] = np.clip(centre, 0, 255).astype(np.uint8)
  return images.reshape(count, NUM_PIXELS), labels
