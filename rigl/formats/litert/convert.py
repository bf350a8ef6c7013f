# SPDX-License-Identifier: Apache-2.0
"""Conversion of TensorFlow functions to LiteRT files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.formats.litert import flatbuffer, sparse_tensors

DTYPES = ("float32", "float16", "int8")
# Messages of the converter about an operation that LiteRT does not have.
_UNSUPPORTED = re.compile(
  r"'?(tf\.\w+)'? op is neither a custom op nor a flex op"
  r"|Custom ops: (\S+)|Flex ops: (\S+)"
)


def convert(
  function: tf.types.experimental.ConcreteFunction,
  module: tf.Module,
  dtype: str = "float32",
  sparse: bool = True,
  metadata: Mapping[str, Any] | None = None,
  calibration: Iterable[Mapping[str, np.ndarray]] = (),
) -> bytes:
  """Converts a function to the bytes of a LiteRT file.

  Args:
    function: of fixed shapes, with named arguments and results.
    module: holds its variables.
    dtype: type of the weights in the file. `float16`: half of the bytes;
      computed in float32 where a device has no float16. `int8`: quantised per
      channel; with `calibration` activations as well.
    sparse: whether kernels that are smaller as sparse tensors become sparse.
    metadata: what JSON can hold, for readers.
    calibration: inputs by name that are typical, for `int8`.

  Raises:
    ValueError: if LiteRT lacks an operation of the function; it is named.
  """
  if dtype not in DTYPES:
    raise ValueError(f"`dtype` must be one of {[*DTYPES]}, got {dtype!r}.")
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [function], module
  )
  if dtype != "float32":
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
  if dtype == "float16":
    converter.target_spec.supported_types = [tf.float16]
  inputs = [*calibration]
  if dtype == "int8" and inputs:
    converter.representative_dataset = _representative(inputs)
  try:
    content = converter.convert()
  except Exception as error:  # The converter has several of its own.
    raise ValueError(_explanation(error)) from error
  model = flatbuffer.read(content)
  if sparse:
    sparse_tensors.sparsify(model)
  if metadata is not None:
    flatbuffer.set_metadata(model, metadata)
  return flatbuffer.write(model)


def _representative(
  inputs: list[Mapping[str, np.ndarray]],
) -> Callable[[], Iterable[dict[str, np.ndarray]]]:
  def examples() -> Iterable[dict[str, np.ndarray]]:
    for example in inputs:
      yield dict(example)

  return examples


def _explanation(error: Exception) -> str:
  """The message of the converter in one line, with the first operation."""
  text = str(error)
  found = _UNSUPPORTED.search(text)
  if found:
    name = next(filter(None, found.groups())).rstrip(",")
    return (
      f"LiteRT has no operation for {name}; replace that layer, or choose "
      "`format`=savedmodel."
    )
  first = (text.strip().splitlines() or [type(error).__name__])[0]
  return f"The LiteRT converter cannot convert the network: {first[:300]}"
