# SPDX-License-Identifier: Apache-2.0
"""Masks of a training run over time, and their file `mask_records.npz`.

The training script records them; `visualize_mask_records` draws them.
"""

import bisect
import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from rigl import file_contents, files

_ITERATIONS = "iterations"
_SHAPE_SUFFIX = "_shape"
# The last two are parameters of np.savez_compressed.
_RESERVED_NAMES = (_ITERATIONS, "file", "allow_pickle")


class MaskRecords:
  """Masks of several layers, recorded at increasing iterations.

  They are held as packed bits. The file is an npz archive that loads without
  pickle: `iterations`, int64 [n], and for every layer `<name>`, uint8
  [n, ceil(size / 8)], the packed bits of the flattened mask, and
  `<name>_shape`, int64 [2]. `np.unpackbits(bits, axis=1, count=size)` turns
  the bits into zeros and ones.
  """

  def __init__(self) -> None:
    self._iterations: list[int] = []
    self._shapes: dict[str, tuple[int, int]] = {}
    self._bits: dict[str, list[np.ndarray]] = {}

  @property
  def iterations(self) -> np.ndarray:
    """The iterations of the records, int64 [n], strictly increasing."""
    return np.array(self._iterations, np.int64)

  @property
  def layer_names(self) -> list[str]:
    """Names of the layers, in the order of the first record."""
    return list(self._shapes)

  def add(self, iteration: int, masks: Mapping[str, np.ndarray]) -> None:
    """Appends one record.

    Args:
      iteration: iteration of the record, larger than that of the last one.
      masks: for every layer a bool array [in, out]; the names and shapes of
        the first record hold for all.

    Raises:
      ValueError: an argument is not as described; nothing is then recorded.
    """
    if self._iterations and iteration <= self._iterations[-1]:
      raise ValueError(
        f"`iteration` must be larger than that of the last record, "
        f"{self._iterations[-1]}, got {iteration}."
      )
    self._check_masks(masks)
    if not self._shapes:
      self._shapes = {name: mask.shape for name, mask in masks.items()}
      self._bits = {name: [] for name in masks}
    self._iterations.append(int(iteration))
    for name, bits in self._bits.items():
      bits.append(np.packbits(masks[name]))

  def truncate(self, iteration: int) -> None:
    """Deletes the records after an iteration; a resumed run records them again.

    Args:
      iteration: records of this and of earlier iterations are kept.
    """
    kept = bisect.bisect_right(self._iterations, iteration)
    del self._iterations[kept:]
    for bits in self._bits.values():
      del bits[kept:]

  def mask(self, name: str, index: int) -> np.ndarray:
    """Returns one mask of a layer.

    Args:
      name: one of `layer_names`.
      index: which record, in [-n, n).

    Returns:
      bool [in, out].

    Raises:
      ValueError: there is no such layer or record.
    """
    shape = self._shape(name)
    count = len(self._iterations)
    if not -count <= index < count:
      raise ValueError(
        f"`index` must be in [-{count}, {count}) for {count} records, got "
        f"{index}."
      )
    bits = np.unpackbits(self._bits[name][index], count=shape[0] * shape[1])
    return bits.astype(bool).reshape(shape)

  def masks(self, name: str) -> np.ndarray:
    """Returns all masks of a layer, one byte per connection.

    Args:
      name: one of `layer_names`.

    Returns:
      bool [n, in, out].

    Raises:
      ValueError: there is no such layer.
    """
    result = np.zeros((len(self._iterations), *self._shape(name)), bool)
    for index in range(len(result)):
      result[index] = self.mask(name, index)
    return result

  def save(self, path: files.Path) -> None:
    """Writes the file atomically.

    Args:
      path: the file to write; its directory must exist.

    Raises:
      FileNotFoundError: the directory is missing.
    """
    place = files.path(path)
    if not place.parent.is_dir():
      raise FileNotFoundError(
        f"`{place}` cannot be written: `{place.parent}` is not a directory."
      )
    arrays = {_ITERATIONS: self.iterations}
    for name, shape in self._shapes.items():
      bits = np.array(self._bits[name], np.uint8)
      arrays[name] = bits.reshape(len(bits), _num_bytes(*shape))
      arrays[name + _SHAPE_SUFFIX] = np.array(shape, np.int64)
    file_contents.write_arrays(place, arrays, compressed=True)

  @classmethod
  def load(cls, path: files.Path) -> "MaskRecords":
    """Reads a file that `save` wrote.

    Args:
      path: the file.

    Returns:
      The records; more may be added to them.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a file of mask records, or it is corrupt.
    """
    place = files.path(path)
    with _reading(place):
      arrays = file_contents.read_arrays(place)
      records = cls()
      records._iterations = _checked_iterations(arrays.pop(_ITERATIONS))
      for name in [n for n in arrays if not n.endswith(_SHAPE_SUFFIX)]:
        shape, bits = arrays[name + _SHAPE_SUFFIX], arrays[name]
        _check_layer(name, shape, bits, len(records._iterations))
        records._shapes[name] = (int(shape[0]), int(shape[1]))
        records._bits[name] = list(bits)
    return records

  def _shape(self, name: str) -> tuple[int, int]:
    if name not in self._shapes:
      raise ValueError(
        f"`name` must be one of {self.layer_names}, got {name!r}."
      )
    return self._shapes[name]

  def _check_masks(self, masks: Mapping[str, np.ndarray]) -> None:
    if self._shapes and set(masks) != set(self._shapes):
      raise ValueError(
        f"`masks` must hold the layers {self.layer_names}, got {list(masks)}."
      )
    for name, mask in masks.items():
      if name in _RESERVED_NAMES or name.endswith(_SHAPE_SUFFIX):
        raise ValueError(
          f"`masks` must not name a layer {', '.join(_RESERVED_NAMES)} or "
          f"*{_SHAPE_SUFFIX}, got {name!r}."
        )
      if mask.dtype != bool or mask.ndim != 2:
        raise ValueError(
          f"`masks[{name!r}]` must be a bool array [in, out], got "
          f"{mask.dtype} {mask.shape}."
        )
      if mask.shape != self._shapes.get(name, mask.shape):
        raise ValueError(
          f"`masks[{name!r}]` must have shape {self._shapes[name]} as before, "
          f"got {mask.shape}."
        )


def _num_bytes(rows: int, columns: int) -> int:
  return (rows * columns + 7) // 8


@contextlib.contextmanager
def _reading(path: files.AnyPath) -> Iterator[None]:
  """Turns whatever reading a damaged file raises into one clear error."""
  if not path.is_file():
    raise FileNotFoundError(f"`{path}`: expected mask records, found no file.")
  try:
    yield
  except KeyError as error:
    raise ValueError(
      f"`{path}` is not a mask-record file: it lacks the array {error}."
    ) from error
  except file_contents.DamagedError as error:
    raise ValueError(f"`{path}` is corrupt: {error}.") from error
  except ValueError as error:
    raise ValueError(f"`{path}` is not a mask-record file: {error}") from error


def _checked_iterations(iterations: np.ndarray) -> list[int]:
  if iterations.dtype != np.int64 or iterations.ndim != 1:
    raise ValueError(
      f"expected int64 iterations [n], found {iterations.dtype} "
      f"{iterations.shape}."
    )
  if np.any(np.diff(iterations) <= 0):
    raise ValueError("expected strictly increasing iterations.")
  return [int(iteration) for iteration in iterations]


def _check_layer(
  name: str, shape: np.ndarray, bits: np.ndarray, num_records: int
) -> None:
  if shape.shape != (2,) or shape.dtype != np.int64 or np.any(shape < 0):
    raise ValueError(f"expected two sizes for {name!r}, found {shape}.")
  expected = (num_records, _num_bytes(*shape.tolist()))
  if bits.dtype != np.uint8 or bits.shape != expected:
    raise ValueError(
      f"expected uint8 {expected} for {name!r}, found {bits.dtype} "
      f"{bits.shape}."
    )
