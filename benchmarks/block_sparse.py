# SPDX-License-Identifier: Apache-2.0
"""Times dense and block-sparse layers, and Transformer blocks, on a device.

TensorFlow writes the programs into a folder; `workers/device_times.py`, which
is copied there, runs them on a machine that has JAX and no TensorFlow.
`README.md` describes the measurement.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import argument_types
import numpy as np

_WORKER = pathlib.Path(__file__).parent / "workers" / "device_times.py"
_SPARSITIES = (0.75, 0.875, 0.9375)
_HEAD = 128
_LAYERS = ((4096, 8192), (8192, 16384))  # Width and tokens.
_WIDTHS = (1024, 2048, 4096)
_TOKENS, _LENGTH = 8192, 1024


def export(folder: pathlib.Path, quick: bool) -> None:
  """Writes all programs into a folder, with the script that times them.

  Args:
    folder: the folder, which is made.
    quick: whether sizes are small.
  """
  folder.mkdir(parents=True, exist_ok=True)
  programs: list[dict[str, Any]] = []
  tables: dict[str, np.ndarray] = {}
  layers, widths, block = _LAYERS, _WIDTHS, 128
  tokens, length = _TOKENS, _LENGTH
  if quick:
    layers, widths, block, tokens, length = ((256, 64),), (256,), 32, 64, 32
  for width, number in layers:
    programs += _layer_programs(width, number, block, tables)
  for width in widths:
    for sparsity in (0.0, *_SPARSITIES):
      programs.append(
        _transformer_program(width, tokens, length, block, sparsity, tables)
      )
  with gzip.open(folder / "programs.json.gz", "wt") as file:
    json.dump(programs, file)
  np.savez(folder / "tables.npz", **tables)
  from rigl.pjrt import jax_client

  shutil.copy(str(jax_client.__file__), folder)
  shutil.copy(_WORKER, folder)
  print(f"{len(programs)} programs in {folder}")


def _layer_programs(
  width: int, tokens: int, block: int, tables: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
  """Forward and backward pass of one layer, dense and block-sparse."""
  import tensorflow as tf

  from rigl.sparse.block_layer import apply_blocks, apply_to_tokens

  group = f"layer, width {width}, {tokens} tokens, bfloat16"
  wide, tall = (tokens, width), (width, tokens)
  square = (width, width)

  def program(
    name: str,
    function: Callable[..., Any],
    shape: tuple[int, ...],
    of_weights: tuple[int, ...],
    index: dict[str, np.ndarray],
  ) -> dict[str, Any]:
    def both_ways(x: Any, upstream: Any, weights: Any, **index: Any) -> Any:
      with tf.GradientTape() as tape:
        tape.watch([x, weights])
        y = function(x, weights, **index)
      gradients = tape.gradient(y, {"x": x, "weights": weights}, upstream)
      return {"y": y} | {f"of_{key}": g for key, g in gradients.items()}

    inputs = {
      "x": _normal(shape),
      "upstream": _normal(shape),
      "weights": _normal(of_weights, 0.02),
    }
    return _program(group, name, both_ways, inputs | index, tables)

  def by_feature(x: Any, weights: Any, **index: Any) -> Any:
    return apply_blocks(x, weights, None, **index)

  def by_token(x: Any, weights: Any, **index: Any) -> Any:
    return apply_to_tokens(lambda x: by_feature(x, weights, **index), x, square)

  programs = [
    program("dense", tf.matmul, wide, square, {}),
    program(
      "dense, features first",
      lambda x, weights: tf.matmul(weights, x, transpose_a=True),
      tall,
      square,
      {},
    ),
  ]
  for sparsity in _SPARSITIES:
    degrees, index = _index(width, width, block, sparsity)
    name = f"{100 * degrees.sparsity:g} % sparse"
    weights = (degrees.number, block, block)
    programs += [
      program(f"{name}, features first", by_feature, tall, weights, index),
      program(name, by_token, wide, weights, index),
    ]
  return programs


def _transformer_program(
  width: int,
  tokens: int,
  length: int,
  block: int,
  sparsity: float,
  tables: dict[str, np.ndarray],
) -> dict[str, Any]:
  """One training step: bfloat16, SGD with momentum of float32 weights."""
  import tensorflow as tf

  from rigl.sparse import memory_order
  from rigl.sparse.block_layer import apply_blocks

  group = f"Transformer block, width {width}, {tokens} tokens of {length}"

  inputs: dict[str, Any] = {"x": _normal((tokens, width))}
  weights: dict[str, tuple[int, ...]] = {
    "attention_in": (width, 3 * width),
    "attention_out": (width, width),
  }
  name = "dense"
  for layer, sizes in (
    ("up", (width, 4 * width)),
    ("down", (4 * width, width)),
  ):
    weights[layer] = sizes
    if sparsity:
      degrees, index = _index(*sizes, block, sparsity)
      weights[layer] = (degrees.number, block, block)
      inputs |= {f"{layer}_{key}": value for key, value in index.items()}
      name = f"MLP {100 * degrees.sparsity:g} % sparse"
  for key, shape in weights.items():
    inputs[f"weights/{key}"] = _normal(shape, 0.02, "float32")
    inputs[f"momentum/{key}"] = _normal(shape, 0.0, "float32")

  def norm(x: Any) -> Any:
    x = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.cast((x - mean) * tf.math.rsqrt(variance + 1e-5), tf.bfloat16)

  def attention(x: Any, used: dict[str, Any]) -> Any:
    heads = max(width // _HEAD, 1)
    split = [tokens // length, length, 3, heads, width // heads]
    mixed = tf.reshape(tf.matmul(norm(x), used["attention_in"]), split)
    query, key, value = tf.unstack(tf.transpose(mixed, [2, 0, 3, 1, 4]))
    scores = tf.matmul(query, key, transpose_b=True) * (width // heads) ** -0.5
    shares = tf.nn.softmax(tf.cast(scores, tf.float32))
    y = tf.matmul(tf.cast(shares, tf.bfloat16), value)
    y = tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [tokens, width])
    return x + tf.matmul(y, used["attention_out"])

  def perceptron(x: Any, used: dict[str, Any], given: Any) -> Any:
    if not sparsity:
      hidden = tf.nn.gelu(tf.matmul(norm(x), used["up"]), approximate=True)
      return x + tf.matmul(hidden, used["down"])

    def layer(y: Any, which: str) -> Any:
      index = (given[f"{which}_outputs_of"], given[f"{which}_numbers_of"])
      return apply_blocks(y, used[which], None, *index)

    hidden = layer(memory_order.features_first(norm(x)), "up")
    hidden = tf.nn.gelu(hidden, approximate=True)
    return x + memory_order.tokens_first(layer(hidden, "down"))

  def step(**given: Any) -> Any:
    held = {key: given[f"weights/{key}"] for key in weights}
    with tf.GradientTape() as tape:
      tape.watch(held)
      used = {key: tf.cast(value, tf.bfloat16) for key, value in held.items()}
      y = perceptron(attention(given["x"], used), used, given)
      loss = tf.reduce_mean(tf.square(tf.cast(y, tf.float32)))
    gradients = tape.gradient(loss, held)
    results = {"loss": loss}
    for key, gradient in gradients.items():
      momentum = 0.9 * given[f"momentum/{key}"] + gradient
      results[f"momentum/{key}"] = momentum
      results[f"weights/{key}"] = held[key] - 1e-4 * momentum
    return results

  return _program(group, name, step, inputs, tables)


def _normal(
  shape: tuple[int, ...], scale: float = 1.0, dtype: str = "bfloat16"
) -> dict[str, Any]:
  """A random input, which is drawn on the device."""
  return {"shape": list(shape), "dtype": dtype, "scale": scale}


def _index(
  inputs: int, outputs: int, block: int, sparsity: float
) -> tuple[Any, dict[str, np.ndarray]]:
  """Degrees, and the index of a random grid."""
  from rigl.sparse import block_structure

  degrees = block_structure.nearest_degrees(
    inputs // block, outputs // block, sparsity
  )
  grid = block_structure.random_grid(degrees, 0, "benchmark")
  outputs_of, numbers_of = block_structure.index_arrays(grid)
  return degrees, {"outputs_of": outputs_of, "numbers_of": numbers_of}


def _program(
  group: str,
  name: str,
  function: Callable[..., Any],
  inputs: dict[str, Any],
  tables: dict[str, np.ndarray],
) -> dict[str, Any]:
  """A program as StableHLO; results of the name of an input replace it."""
  import tensorflow as tf

  from rigl.runners.program import Program
  from rigl.runners.stablehlo import lowering

  specs, described = {}, []
  for key, value in inputs.items():
    argument = key.replace("/", "_")
    if isinstance(value, np.ndarray):
      tables[f"{group}/{name}/{key}"] = value
      specs[key] = tf.TensorSpec(value.shape, value.dtype, argument)
      described.append({"name": key, "table": f"{group}/{name}/{key}"})
    else:
      specs[key] = tf.TensorSpec(value["shape"], value["dtype"], argument)
      described.append({"name": key, **value})

  def positional(*values: Any) -> Any:
    return function(**dict(zip(inputs, values, strict=True)))

  lowered = lowering.lower(Program(positional, True), specs)
  if lowered.captured:
    raise ValueError(f"The program {name!r} captures tensors.")
  return {
    "group": group,
    "name": name,
    "text": lowered.text,
    "inputs": described,
    "outputs": [
      key if key in inputs else f"results/{key}" for key in lowered.results
    ],
  }


def main() -> None:
  """Writes the programs, runs them, or both."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--action",
    choices=("export", "run", "both"),
    default="both",
    help="export: write the programs, with TensorFlow; run: time them (JAX)",
  )
  parser.add_argument(
    "--folder", help="folder of the programs; default for both: a temporary one"
  )
  parser.add_argument(
    "--jax_python", default=sys.executable, help="Python that has JAX"
  )
  parser.add_argument("--rounds", type=argument_types.count, default=10)
  parser.add_argument(
    "--json",
    type=argument_types.output,
    help="file to write all measurements to",
  )
  parser.add_argument(
    "--quick", action="store_true", help="small sizes, to see that it works"
  )
  args = parser.parse_args()
  if args.folder is None and args.action != "both":
    parser.error(f"--action={args.action} needs --folder.")
  if args.action != "run" and importlib.util.find_spec("tensorflow") is None:
    parser.error("writing the programs needs TensorFlow.")
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(args.folder or temporary)
    if args.action != "run":
      try:
        export(folder, args.quick)
      except OSError as error:
        parser.error(f"--folder: {error}")
    if args.action != "export":
      script = folder / _WORKER.name
      if not script.exists():
        parser.error(f"there are no programs in {folder}: export them first.")
      command = [args.jax_python, str(script), f"--rounds={args.rounds}"]
      command += [f"--json={args.json}"] if args.json else []
      command += ["--quick"] if args.quick else []
      try:
        sys.exit(subprocess.run(command).returncode)
      except OSError as error:
        parser.error(f"--jax_python: {error}")


if __name__ == "__main__":
  main()
