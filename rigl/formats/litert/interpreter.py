# SPDX-License-Identifier: Apache-2.0
"""Runs LiteRT files in Python."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np


def run(
  content: bytes, inputs: Mapping[str, np.ndarray], threads: int = 1
) -> dict[str, np.ndarray]:
  """Runs the one signature of a file.

  Args:
    content: the bytes of the file.
    inputs: arrays by the names of the signature.
    threads: how many threads compute.

  Returns:
    Arrays by the names of the signature.
  """
  interpreter = make_interpreter(content, threads)
  (name,) = interpreter.get_signature_list()
  runner = interpreter.get_signature_runner(name)
  # Names of TensorFlow's arguments, as signatures have them.
  found: dict[str, np.ndarray] = runner(**inputs)
  return {key: np.array(value) for key, value in found.items()}


def make_interpreter(content: bytes, threads: int = 1) -> Any:
  """The interpreter of a file: LiteRT's, or TensorFlow's own without it.

  Args:
    content: the bytes of the file.
    threads: how many threads compute.
  """
  try:
    cls = importlib.import_module("ai_edge_litert.interpreter").Interpreter
  except ImportError:
    import tensorflow as tf

    cls = tf.lite.Interpreter
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TensorFlow's says that it will go.
    return cls(model_content=content, num_threads=threads)
