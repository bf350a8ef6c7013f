# SPDX-License-Identifier: Apache-2.0
"""Layers of a network by its name, from a JSON file or from a Keras file."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from rigl import counting, files
from rigl.counting import architectures

_FIELDS = tuple(counting.LayerSpec.__dataclass_fields__)


def load_layers(
  name: str, width: float = 1.0, image_size: int | None = None
) -> list[counting.LayerSpec]:
  """Reads the layers of a model.

  Args:
    name: a network of `architectures.network`; or a `.json` file with a list
      of objects that have the fields of `counting.LayerSpec`; or a `.keras` or
      `.h5` file of a Keras model.
    width: factor of the number of channels. A network rounds its channels by
      its own rule; the channels of a file are rounded down.
    image_size: height and width of the images; None for the model's own.

  Raises:
    ValueError: if there is no such model, or it does not take an argument.
    OSError: if a file cannot be read.
  """
  suffix = pathlib.Path(name).suffix
  if suffix not in (".json", ".keras", ".h5"):
    return architectures.network(name, width, image_size)
  if image_size is not None:
    raise ValueError(
      f"`image_size` must not be given for a file, got {image_size} for "
      f"{name!r}."
    )
  path = files.path(name, "model")
  if not path.is_file():
    raise ValueError(f"`model` must be an existing file, got {name!r}.")
  layers = _from_json(path) if suffix == ".json" else _from_keras(path)
  return counting.scale_widths(layers, width)


def _from_json(path: files.AnyPath) -> list[counting.LayerSpec]:
  try:
    rows = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"`model` must be JSON, got {path}: {error}.") from error
  if not isinstance(rows, list):
    raise ValueError(f"`model` must hold a list of layers, got {path}.")
  return counting.find_layers([_spec(row) for row in rows])


def _spec(row: Any) -> counting.LayerSpec:
  needed = {"name", "kind", "kernel_shape"}
  fields = set(row) if isinstance(row, dict) else set()
  if not needed <= fields <= set(_FIELDS):
    raise ValueError(
      f"`model` must hold layers with the fields {sorted(needed)} and any of "
      f"{sorted(set(_FIELDS) - needed)}, got {row}."
    )
  return counting.LayerSpec(**row)


def _from_keras(path: files.AnyPath) -> list[counting.LayerSpec]:
  try:
    import keras  # Takes seconds, and only this kind of file needs it.
  except ImportError as error:
    raise ValueError(
      f"`model`: reading a Keras file needs Keras, got {str(path)!r}: "
      "pip install 'rigl[cpu]'."
    ) from error
  return counting.find_layers(keras.models.load_model(path, compile=False))
