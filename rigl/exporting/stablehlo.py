# SPDX-License-Identifier: Apache-2.0
"""StableHLO folders: the program, its weights and a manifest.

`program.mlir` is the text of one function. Its arguments are the inputs, then
the arrays of `weights.npz`, both in the order of `rigl.json`. Every compiler of
XLA reads it: JAX, TensorFlow, IREE, and those of accelerators.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from rigl import file_contents, files
from rigl.exporting.signature import Signature
from rigl.runners.program import Program
from rigl.runners.stablehlo import lowering

PROGRAM_FILE, WEIGHTS_FILE = "program.mlir", "weights.npz"
MANIFEST_FILE = "rigl.json"
FILES = (PROGRAM_FILE, WEIGHTS_FILE, MANIFEST_FILE)
# Of TensorFlow's operation that runs StableHLO: its inputs have these shapes.
_CALL_VERSION = 9


def write(
  signature: Signature,
  place: files.AnyPath,
  batch_size: int,
  metadata: Mapping[str, Any],
) -> None:
  """Writes a folder.

  Args:
    signature: what it computes.
    place: the folder, which must not exist yet.
    batch_size: examples per call.
    metadata: what JSON can hold.

  Raises:
    ValueError: if XLA cannot compile the network.
  """
  names = list(signature.inputs)
  example = signature.batches(batch_size)[0]
  arguments = {name: tf.constant(example[name]) for name in names}

  def compute(*values: Any) -> dict[str, Any]:
    return signature.function(**dict(zip(names, values, strict=True)))

  lowered = lowering.lower(Program(compute, jit_compile=True), arguments)
  known = {id(v.handle): v for v in signature.variables}
  weights: dict[str, np.ndarray] = {}
  for captured in lowered.captured:
    source = known.get(id(captured), captured)
    if source is captured and captured.dtype == tf.resource:
      raise ValueError("The network reads a variable that it does not list.")
    weights[f"weight_{len(weights)}"] = source.numpy()
  manifest = {
    **metadata,
    "inputs": [
      {
        "name": name,
        "shape": list(value.shape),
        "dtype": value.dtype.name,
      }
      for name, value in arguments.items()
    ],
    "weights": [*weights],
    "outputs": [
      {
        "name": name,
        "shape": list(value.shape),
        "dtype": value.dtype.name,
      }
      for name, value in zip(
        lowered.results,
        _results(compute, arguments, lowered.results),
        strict=True,
      )
    ],
  }
  place.mkdir(parents=True)
  files.write_text(place / PROGRAM_FILE, lowered.text)
  file_contents.write_arrays(place / WEIGHTS_FILE, weights, compressed=True)
  files.write_text(place / MANIFEST_FILE, json.dumps(manifest, indent=1))


def _results(
  compute: Callable[..., dict[str, Any]],
  arguments: Mapping[str, Any],
  names: tuple[str, ...],
) -> list[Any]:
  """The results of a function, for their shapes."""
  function = tf.function(compute, autograph=False)
  concrete = function.get_concrete_function(*arguments.values())
  return [concrete.structured_outputs[name] for name in names]


def load(place: files.Path) -> Callable[..., dict[str, np.ndarray]]:
  """The function of a folder, which XLA compiles within TensorFlow.

  Args:
    place: the folder.

  Returns:
    A function of arrays by the names of the inputs, which returns arrays by the
    names of the results. It runs on the CPU.
  """
  folder = files.path(place)
  manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
  text = (folder / PROGRAM_FILE).read_text(encoding="utf-8")
  stored = file_contents.read_arrays(folder / WEIGHTS_FILE)
  weights = [stored[name] for name in manifest["weights"]]
  inputs = [entry["name"] for entry in manifest["inputs"]]
  outputs = manifest["outputs"]

  def call(**values: np.ndarray) -> dict[str, np.ndarray]:
    results = gen_xla_ops.xla_call_module(
      args=[*(values[name] for name in inputs), *weights],
      version=_CALL_VERSION,
      module=text,
      Tout=[tf.as_dtype(entry["dtype"]) for entry in outputs],
      Sout=[entry["shape"] for entry in outputs],
      platforms=["CPU"],
    )
    return {
      entry["name"]: value.numpy()
      for entry, value in zip(outputs, results, strict=True)
    }

  return call
