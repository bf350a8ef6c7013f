# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: named tensors in TensorFlow's own format, written atomically.

Tensors have the names of the variables, as in the published TF1 checkpoints.
`tf.train.load_checkpoint` and other readers of that format read them.

A compact file (`rigl.formats.compact`) may be given wherever the prefix of a
checkpoint is read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import files
from rigl.error_text import first_line
from rigl.formats import compact
from rigl.types import Variable
from rigl.url_path import UrlPath, python_errors

PREFIX = "model.ckpt"
_DATA, _INDEX = ".data-00000-of-00001", ".index"
# TensorFlow takes them for patterns where it looks for checkpoints.
WILDCARDS = frozenset("*?[]\\")
# How many differing variables of each kind a message names.
_NAMED = 2


class DamagedError(ValueError):
  """A checkpoint cannot be read, or holds values that are not finite."""


def save(
  directory: files.Path,
  number: int,
  tensors: Mapping[str, Any],
  keep: int = 2,
  writes: bool = True,
) -> str:
  """Writes `model.ckpt-NUMBER` and removes all but the newest.

  After a kill at any moment, older checkpoints are untouched, and this one is
  either whole or invisible.

  Args:
    directory: the directory to write to.
    number: number in the name; it grows during the run.
    tensors: variables, tensors or arrays by name.
    keep: how many checkpoints to keep, at least 1; 0 keeps all.
    writes: whether this process writes it. If not, it only reads the tensors,
      which may need all processes.

  Returns:
    The prefix of the checkpoint.
  """
  directory = files.path(directory)
  prefix = directory / name_of(number)
  names = sorted(tensors)
  values = [tf.convert_to_tensor(tensors[name]) for name in names]
  if not writes:
    return str(prefix)
  temporary = f"{prefix}.tmp{os.getpid()}"
  try:
    with python_errors(prefix):
      tf.raw_ops.SaveV2(
        prefix=temporary,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=values,
      )
    for ending in (_DATA, _INDEX):  # A checkpoint exists by its index.
      files.move(temporary + ending, f"{prefix}{ending}")
  finally:
    for ending in (_DATA, _INDEX):
      files.path(temporary + ending).unlink(missing_ok=True)
  numbers = list_numbers(directory)
  removed = [n for n in numbers if n <= number][:-keep] if keep else []
  rest = [n for n in numbers if n not in removed]
  write_state(directory, [name_of(n) for n in rest])
  for old in removed:
    for ending in (_INDEX, _DATA):
      (directory / f"{name_of(old)}{ending}").unlink(missing_ok=True)
  return str(prefix)


def name_of(number: int) -> str:
  """The name of a checkpoint with this number, without an ending."""
  return f"{PREFIX}-{number}"


def exists(prefix: str) -> bool:
  """Whether there is a checkpoint of this prefix; it may be damaged."""
  return files.path(prefix + _INDEX).exists() or compact.is_compact(prefix)


def has(prefix: str, tensor: str) -> bool:
  """Whether a readable checkpoint holds a tensor of this name."""
  with _reader(prefix) as reader:
    return bool(reader.has_tensor(tensor))


def shapes(prefix: str) -> dict[str, tuple[int, ...]]:
  """The shapes of all tensors of a checkpoint by name.

  Args:
    prefix: such as `DIR/model.ckpt-1200`.

  Raises:
    DamagedError: if it does not exist or is damaged.
  """
  if compact.is_compact(prefix):
    return {name: tensor.shape for name, tensor in load(prefix).items()}
  with _reading(prefix), _reader(prefix) as reader:
    found = reader.get_variable_to_shape_map()
  return {name: tuple(shape) for name, shape in found.items()}


def list_numbers(directory: files.Path) -> list[int]:
  """The numbers of the whole checkpoints in a directory, ascending.

  The list is empty if the directory does not exist.
  """
  directory = files.path(directory)
  if not directory.is_dir():
    return []
  pattern = re.compile(rf"{re.escape(PREFIX)}-(\d+){re.escape(_INDEX)}$")
  matches = (pattern.match(path.name) for path in directory.iterdir())
  numbers = sorted(int(match[1]) for match in matches if match)
  return [n for n in numbers if (directory / f"{name_of(n)}{_DATA}").exists()]


def load_latest(directory: files.Path) -> dict[str, np.ndarray] | None:
  """Reads the newest checkpoint that is readable and finite.

  Args:
    directory: the directory to read.

  Returns:
    All tensors by name; None if there is no checkpoint.

  Raises:
    ValueError: if there are checkpoints and all of them are damaged.
  """
  numbers = list_numbers(directory)
  for number in reversed(numbers):
    prefix = str(files.path(directory) / name_of(number))
    try:
      tensors = load(prefix)
      _check_finite(prefix, tensors)
      return tensors
    except ValueError as error:
      logging.warning("%s", error)
  if numbers:
    raise ValueError(
      f"`{directory}`: all checkpoints are damaged or not finite."
    )
  return None


def _check_finite(prefix: str, tensors: Mapping[str, np.ndarray]) -> None:
  """Checks that a training can go on from a checkpoint.

  Raises:
    DamagedError: naming the first tensor that is not finite.
  """
  for name, value in tensors.items():
    if value.dtype.kind == "V":  # NumPy does not know bfloat16.
      value = value.astype(np.float32)
    if value.dtype.kind == "f" and not np.isfinite(value).all():
      raise DamagedError(f"`{prefix}` is passed over: {name} is not finite.")


def load(prefix: str) -> dict[str, np.ndarray]:
  """Reads all tensors of a checkpoint.

  Args:
    prefix: such as `DIR/model.ckpt-1200`, or a compact file.

  Raises:
    DamagedError: if it does not exist or is damaged.
  """
  if compact.is_compact(prefix):
    try:
      return compact.CompactFile(prefix).tensors()
    except ValueError as error:
      raise DamagedError(str(error)) from error
  with _reading(prefix), _reader(prefix) as reader:
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names}


@contextlib.contextmanager
def _reading(prefix: str) -> Iterator[None]:
  """Turns whatever reading a damaged checkpoint raises into one clear error."""
  try:
    yield
  except (
    tf.errors.OpError,
    RuntimeError,
    ValueError,
    LookupError,  # The data file is too short.
    MemoryError,  # The index claims a block of any size.
  ) as error:
    raise DamagedError(
      f"`{prefix}` is no readable checkpoint: {first_line(error)}"
    ) from error


def load_present(prefix: str) -> dict[str, np.ndarray]:
  """Reads a checkpoint that another process may remove meanwhile.

  Raises:
    FileNotFoundError: if it does not exist.
    ValueError: if it is damaged.
  """
  missing = f"There is no checkpoint `{prefix}`."
  if not exists(prefix):
    raise FileNotFoundError(missing)
  try:
    return load(prefix)
  except ValueError as error:
    if exists(prefix):
      raise
    raise FileNotFoundError(missing) from error


def restore(
  tensors: Mapping[str, np.ndarray], variables: Mapping[str, Variable]
) -> None:
  """Assigns the values of a checkpoint to variables, by name.

  Args:
    tensors: values by name; there may be more than are wanted.
    variables: variables by name; the checkpoint must hold all of them in the
      same shape.

  Raises:
    ValueError: naming the first differing variables, with both shapes.
  """
  check_fits("The checkpoint", tensors, variables)
  for name, variable in variables.items():
    variable.assign(tf.cast(tensors[name], variable.dtype))


def check_fits(
  what: str,
  tensors: Mapping[str, Any],
  wanted: Mapping[str, Any],
  others: Iterable[str] = (),
) -> None:
  """Checks that a checkpoint holds what a model needs.

  Args:
    what: name of the checkpoint in errors.
    tensors: arrays by name, of the checkpoint.
    wanted: arrays or variables by name, of the model; the checkpoint must hold
      all of them in the same shape.
    others: names of the checkpoint that the model must have.

  Raises:
    ValueError: naming the first differing variables, with both shapes.
  """
  shapes, lacking = [], []
  for name, variable in wanted.items():
    shape = tuple(variable.shape)
    if name not in tensors:
      lacking.append(f"{name} of shape {shape} is not in the checkpoint")
    elif tuple(tensors[name].shape) != shape:
      shapes.append(
        f"{name} has the shape {tuple(tensors[name].shape)} in the checkpoint "
        f"and {shape} in the model"
      )
  unknown = [
    f"{name} of shape {tuple(tensors[name].shape)} is not in the model"
    for name in others
    if name not in wanted
  ]
  problems = [*shapes[:_NAMED], *lacking[:_NAMED], *unknown[:_NAMED]]
  if problems:
    raise ValueError(f"{what} does not fit: {'; '.join(problems)}.")


def write_state(directory: files.Path, names: list[str]) -> None:
  """Names checkpoints in the file `checkpoint`, as TensorFlow's tools do.

  Args:
    directory: where that file is.
    names: prefixes of the checkpoints in the directory, the newest last.
  """
  place = files.path(directory)
  # It rewrites names in a relative directory, as that of a bucket seems to be.
  absolute = os.sep if isinstance(place, UrlPath) else os.path.abspath(place)
  state = tf.compat.v1.train.generate_checkpoint_state_proto(
    absolute, names[-1], names
  )
  files.write_text(place / "checkpoint", str(state))


@contextlib.contextmanager
def _reader(prefix: str) -> Iterator[Any]:
  """The reader of a checkpoint; `tf.train.load_checkpoint` takes folders."""
  place = files.path(prefix)
  if not WILDCARDS & set(str(place)) or isinstance(place, UrlPath):
    yield tf.compat.v1.train.NewCheckpointReader(str(place))
    return
  # The reader takes such names for patterns, so it gets links to the files.
  with tempfile.TemporaryDirectory() as directory:
    for found in place.parent.iterdir():
      ending = found.name.removeprefix(place.name)
      if ending != found.name and ending.startswith((_INDEX, ".data-")):
        os.symlink(os.path.abspath(found), f"{directory}/{PREFIX}{ending}")
    yield tf.compat.v1.train.NewCheckpointReader(f"{directory}/{PREFIX}")
