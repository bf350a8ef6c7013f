# SPDX-License-Identifier: Apache-2.0
"""Compact files, read into Keras models."""

from __future__ import annotations

import os
import re

import keras

from rigl.formats.compact import CompactFile
from rigl.keras.checkpoints import load_checkpoint
from rigl.keras.wrapped import find_sparse_optimizer

# What a compact file of a Keras model says that it is.
_TASK = "keras"


def load_compact(model: keras.Model, path: str | os.PathLike) -> None:
  """Loads the weights of a compact file (`rigl.export`) into a Keras model.

  Variables are found by their paths. Keras numbers the layers of all models of
  a program: if paths differ only in such numbers (`dense_1`, `dense_4`), or no
  path is the same, variables are found by their order. A file of a network of
  the scripts is loaded as `load_checkpoint` does it.

  Args:
    model: a built model of the same architecture.
    path: the compact file.

  Raises:
    ValueError: if the file is damaged or does not fit the model, or the model
      was compiled with a sparse optimizer, whose masks are others: load first,
      and compile then. Nothing has changed in these cases.
  """
  file = CompactFile(path)
  if file.metadata.get("task") != _TASK:
    load_checkpoint(model, path)
    return
  if find_sparse_optimizer(model) is not None:
    raise ValueError(
      "`model` must not be compiled with a sparse optimizer yet: its masks "
      "would be others than those of the file."
    )
  tensors = file.tensors()
  paths = [variable.path for variable in model.variables]
  names = list(tensors) if _are_renamed(paths, list(tensors)) else paths
  problems = [
    f"{variable.path} of shape {tuple(variable.shape)} is "
    + (f"of shape {tensors[name].shape}" if name in tensors else "not there")
    for name, variable in zip(names, model.variables, strict=True)
    if name not in tensors
    or tensors[name].shape != tuple(variable.shape)
    or _last(name) != _last(variable.path)
  ]
  problems += [
    f"{name} is not in the model" for name in set(tensors) - {*names}
  ]
  if problems:
    raise ValueError(
      f"`{os.fspath(path)}` does not fit: {'; '.join(sorted(problems)[:2])}."
    )
  for name, variable in zip(names, model.variables, strict=True):
    variable.assign(tensors[name])


def _are_renamed(paths: list[str], names: list[str]) -> bool:
  """Whether the variables of a file are those of a model under other names."""
  if set(paths) == set(names) or len(paths) != len(names):
    return False
  is_numbered_anew = all(
    _without_numbers(path) == _without_numbers(name)
    for path, name in zip(paths, names, strict=True)
  )
  return is_numbered_anew or not set(paths) & set(names)


def _without_numbers(path: str) -> str:
  """A path without the numbers that Keras gives to layers.

  >>> _without_numbers("a_1/dense_2/kernel")
  'a/dense/kernel'
  """
  return re.sub(r"_\d+(?=/|$)", "", path)


def _last(path: str) -> str:
  return path.rsplit("/", 1)[-1]
