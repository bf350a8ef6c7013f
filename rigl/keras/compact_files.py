# SPDX-License-Identifier: Apache-2.0
"""Compact files, read into Keras models."""

from __future__ import annotations

import os

import keras

from rigl.formats.compact import CompactFile
from rigl.keras.checkpoints import load_checkpoint
from rigl.keras.wrapped import find_sparse_optimizer

# What a compact file of a Keras model says that it is.
_TASK = "keras"


def load_compact(model: keras.Model, path: str | os.PathLike) -> None:
  """Loads the weights of a compact file (`rigl.export`) into a Keras model.

  Variables are found by their paths, or, if no path is the same because Keras
  numbers the layers of each program anew, by their order. A file of a network
  of the scripts is loaded as `load_checkpoint` does it.

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
  names = paths
  if not set(paths) & set(tensors) and len(paths) == len(tensors):
    names = list(tensors)
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


def _last(path: str) -> str:
  return path.rsplit("/", 1)[-1]
