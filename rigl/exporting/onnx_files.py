# SPDX-License-Identifier: Apache-2.0
"""ONNX files, which tf2onnx converts and ONNX Runtime reads."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from rigl.error_text import first_line, one_line
from rigl.exporting.signature import Signature

OPSET = 17
_EXTRA = "pip install 'rigl[onnx]'"


def check_installed() -> None:
  """Checks that the converter and the runtime are there.

  Raises:
    ValueError: if one is missing, with what to install.
  """
  for module in ("tf2onnx", "onnxruntime"):
    try:
      importlib.import_module(module)
    except ImportError as error:
      raise ValueError(
        f"`format`=onnx needs {module}, which is not installed: {_EXTRA}."
      ) from error


def convert(signature: Signature, metadata: Mapping[str, Any]) -> bytes:
  """The bytes of an ONNX file, for any number of examples per call.

  Args:
    signature: what it computes.
    metadata: what JSON can hold, for readers.

  Raises:
    ValueError: if ONNX lacks an operation of the network.
  """
  tf2onnx: Any = importlib.import_module("tf2onnx")
  module, predict = signature.module()
  logging.getLogger("tf2onnx").setLevel(logging.ERROR)
  try:
    model, _ = tf2onnx.convert.from_function(
      predict, predict.input_signature, opset=OPSET
    )
  except Exception as error:  # The converter has several of its own.
    raise ValueError(
      f"tf2onnx cannot convert the network: {first_line(error, 300)}"
    ) from error
  del module  # Its variables had to live until here.
  entry = model.metadata_props.add()
  entry.key, entry.value = "rigl", json.dumps(metadata)
  content: bytes = model.SerializeToString()
  return content


def run(
  content: bytes, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Runs an ONNX file.

  Args:
    content: the bytes of the file.
    inputs: arrays by the names of the inputs.

  Returns:
    Arrays by the names of the results.

  Raises:
    ValueError: if ONNX Runtime lacks an operation.
  """
  runtime: Any = importlib.import_module("onnxruntime")
  try:
    session = runtime.InferenceSession(
      content, providers=["CPUExecutionProvider"]
    )
  except Exception as error:  # It has no public class of its errors.
    raise ValueError(
      f"ONNX Runtime refuses the file: {one_line(error, 300)}"
    ) from error
  names = [result.name for result in session.get_outputs()]
  return dict(zip(names, session.run(names, dict(inputs)), strict=True))
