# SPDX-License-Identifier: Apache-2.0
"""Layers of a network by its name, from a JSON file or from a Keras file."""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from typing import Any

from rigl import counting
from rigl.counting import architectures
from rigl.flops import keras_files

_FIELDS = tuple(counting.LayerSpec.__dataclass_fields__)


@dataclass(frozen=True)
class Network:
  """Layers of a network.

  Attributes:
    layers: the layers.
    zeros: number of weights that are zero by layer name; None if the network
      comes without weights.
  """

  layers: list[counting.LayerSpec]
  zeros: dict[str, int] | None = None


def load_layers(
  name: str, width: float = 1.0, image_size: int | None = None
) -> list[counting.LayerSpec]:
  """Reads the layers of a model, as `load` does."""
  return load(name, width, image_size).layers


def load(
  name: str, width: float = 1.0, image_size: int | None = None
) -> Network:
  """Reads a model.

  Args:
    name: a network of `architectures.network`; or a `.json` file with a list
      of objects that have the fields of `counting.LayerSpec`; or a `.keras` or
      `.h5` file of a Keras model.
    width: factor of the number of channels. A network rounds its channels by
      its own rule; the channels of a file are rounded down.
    image_size: height and width of the images; None for the model's own. Of a
      Keras model it is the size of all that it leaves open.

  Raises:
    ValueError: if there is no such model, or it does not take an argument.
    OSError: if a file cannot be read.
  """
  suffix = pathlib.Path(name).suffix
  if suffix not in (".json", ".keras", ".h5"):
    return Network(architectures.network(name, width, image_size))
  if image_size is not None and suffix == ".json":
    raise ValueError(
      f"`image_size` must not be given for a file, got {image_size} for "
      f"{name!r}."
    )
  path = pathlib.Path(name)
  if not path.is_file():
    raise ValueError(f"`model` must be an existing file, got {name!r}.")
  if suffix == ".json":
    return Network(counting.scale_widths(_from_json(path), width))
  network = _from_keras(path, image_size)
  layers = counting.scale_widths(network.layers, width)
  return Network(layers, network.zeros if width == 1 else None)


def _from_json(path: pathlib.Path) -> list[counting.LayerSpec]:
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


def _from_keras(path: pathlib.Path, image_size: int | None) -> Network:
  """Layers and zeros of a Keras model."""
  model = keras_files.load_model(path)
  from rigl.counting import keras_layers  # It needs TensorFlow.

  is_open = keras_layers.is_open(model)
  if image_size is not None:
    if image_size < 1:
      raise ValueError(f"`image_size` must be at least 1, got {image_size}.")
    if not is_open:
      raise ValueError(
        f"`image_size` must not be given for a file that has all sizes, got "
        f"{image_size} for {str(path)!r}."
      )
  elif is_open:
    raise ValueError(
      f"`image_size` must be given for a file that leaves sizes open, got none "
      f"for {str(path)!r}."
    )
  shape = keras_layers.filled_shape(model, image_size) if image_size else None
  found = keras_layers.find_kernels(model, shape)
  return Network(
    [spec for spec, _ in found],
    {spec.name: _zeros(variable, spec) for spec, variable in found},
  )


def _zeros(variable: Any, spec: counting.LayerSpec) -> int:
  """Number of zeros of a variable, as a share of the layer's weights."""
  values = variable.numpy()
  return int((values == 0).sum() * spec.size // values.size)
