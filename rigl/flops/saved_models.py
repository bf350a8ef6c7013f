# SPDX-License-Identifier: Apache-2.0
"""Reads networks from SavedModels."""

from __future__ import annotations

import pathlib
from typing import Any

from rigl.error_text import one_line
from rigl.flops.network import Network, check_image_size, with_zeros

_DEFAULT = "serving_default"
_LENGTH = 200  # Of the text of TensorFlow's error, in characters.


def load(path: pathlib.Path, image_size: int | None) -> Network:
  """Reads the layers and zeros of a SavedModel.

  Args:
    path: its directory.
    image_size: the size of all that its signature leaves open, but the batch.

  Raises:
    ValueError: if it has no signature that can be counted.
  """
  from rigl.config import tensorflow_environment  # noqa: F401

  # isort: split
  import tensorflow as tf

  from rigl.counting import graph_layers

  try:
    loaded = tf.saved_model.load(str(path))
    signatures = dict(getattr(loaded, "signatures", {}))
  # Of a damaged graph it raises errors of any kind.
  except Exception as error:
    raise ValueError(
      f"`model` must be a SavedModel, got {str(path)!r}: "
      f"{one_line(error, _LENGTH)}"
    ) from error
  if _DEFAULT not in signatures and len(signatures) != 1:
    raise ValueError(
      f"`model` must have one signature or {_DEFAULT!r}, got "
      f"{sorted(signatures)} in {str(path)!r}."
    )
  signature = signatures.get(_DEFAULT) or next(iter(signatures.values()))
  specs = signature.structured_input_signature[1]
  sizes = {name: _sizes(spec, path) for name, spec in specs.items()}
  check_image_size(
    path, image_size, any(None in size for size in sizes.values())
  )
  inputs = {
    name: tf.TensorSpec(
      [1, *(n or image_size for n in size)], specs[name].dtype
    )
    for name, size in sizes.items()
  }
  function = graph_layers.trace(lambda values: signature(**values), inputs)
  return with_zeros(graph_layers.kernels_of(function))


def _sizes(spec: Any, path: pathlib.Path) -> list[int | None]:
  """Sizes of an example of an input."""
  if spec.shape.rank is None or spec.shape.rank == 0:
    raise ValueError(
      f"`model` must have inputs of known rank with a batch, got {spec} in "
      f"{str(path)!r}."
    )
  return spec.shape.as_list()[1:]
