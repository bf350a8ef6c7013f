# SPDX-License-Identifier: Apache-2.0
"""Layers of a network by its name or from a file."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

from rigl import counting, files
from rigl.counting import architectures
from rigl.flops import keras_files, saved_models
from rigl.flops.network import Network

_FIELDS = tuple(counting.LayerSpec.__dataclass_fields__)


def load_layers(
  name: str, width: float = 1.0, image_size: int | None = None
) -> list[counting.LayerSpec]:
  """Reads the layers of a model.

  Args:
    name: as for `load`.
    width: as for `load`.
    image_size: as for `load`.

  Raises:
    ValueError: as `load` does.
    OSError: if a file cannot be read.
  """
  return load(name, width, image_size).layers


def load(
  name: str, width: float = 1.0, image_size: int | None = None
) -> Network:
  """Reads a model.

  Args:
    name: a network of `architectures.network`; or a `.json` file with a list
      of objects that have the fields of `counting.LayerSpec`; or a `.keras` or
      `.h5` file of a Keras model; or the directory of a SavedModel.
    width: factor of the number of channels. A network rounds its channels by
      its own rule; the channels of a file are rounded down.
    image_size: height and width of the images; None for the model's own. Of a
      Keras model or SavedModel it is the size of all that it leaves open.

  Raises:
    ValueError: if there is no such model, or it does not take an argument.
    OSError: if a file cannot be read.
  """
  if _is_saved_model(name):
    return _scaled(saved_models.load(pathlib.Path(name), image_size), width)
  suffix = pathlib.Path(name).suffix
  if suffix not in (".json", ".keras", ".h5"):
    return Network(architectures.network(name, width, image_size))
  if image_size is not None and suffix == ".json":
    raise ValueError(
      f"`image_size` must not be given for a file, got {image_size} for "
      f"{name!r}."
    )
  is_json = suffix == ".json"
  path = files.path(name, "model") if is_json else files.on_disk(name, "model")
  if not path.is_file():
    raise ValueError(f"`model` must be an existing file, got {name!r}.")
  if is_json:
    return Network(counting.scale_widths(_from_json(path), width))
  return _scaled(keras_files.load(pathlib.Path(path), image_size), width)


def layers_by_width(
  name: str, image_size: int | None = None
) -> Callable[[float], list[counting.LayerSpec]]:
  """A function that returns the layers of a model of any width.

  Files are read once.

  Args:
    name: as for `load`.
    image_size: as for `load`.

  Returns:
    A function of the factor of the number of channels.

  Raises:
    ValueError: as `load` does.
    OSError: if a file cannot be read.
  """
  layers = load_layers(name, 1.0, image_size)
  if _is_saved_model(name) or pathlib.Path(name).suffix:
    return lambda width: counting.scale_widths(layers, width)
  return lambda width: load_layers(name, width, image_size)


def _is_saved_model(name: str) -> bool:
  return (pathlib.Path(name) / "saved_model.pb").is_file()


def _scaled(network: Network, width: float) -> Network:
  """A network of another width, which has no weights yet."""
  layers = counting.scale_widths(network.layers, width)
  return Network(layers, network.zeros if width == 1 else None)


def _from_json(path: files.AnyPath) -> list[counting.LayerSpec]:
  try:
    rows = json.loads(path.read_text(encoding="utf-8"))
  except (ValueError, RecursionError) as error:
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
