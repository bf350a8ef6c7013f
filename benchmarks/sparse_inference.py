# SPDX-License-Identifier: Apache-2.0
"""Latency and size of dense and sparse files beside each other.

  python benchmarks/sparse_inference.py            # Takes about 20 minutes.
  python benchmarks/sparse_inference.py --quick    # Small networks, few calls.

Random masks: the time does not depend on which connections are active. LiteRT
in Python and in WebAssembly (dense, sparse, int8), TensorFlow and ONNX Runtime
compute with one thread; their calls alternate, and the median of each is
printed, with the time of a dense file over it: of the same runtime's, for
TensorFlow and ONNX Runtime of LiteRT's in Python. WebAssembly runs under Node
and needs `npm ci --prefix examples/web`. What is not installed is left out and
named.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import argument_types
import keras
import numpy as np
import tensorflow as tf
from workers import litert_node

import rigl
from rigl.formats.litert import interpreter

# A call of a network; returns its milliseconds.
Run = Callable[[], float]

LITERT, WASM = "LiteRT", "WebAssembly"
FILES: dict[str, dict[str, Any]] = {
  "dense": {"sparse": False},
  "sparse": {},
  "int8, dense": {"dtype": "int8"},
}


def mobilenet(sparsity: float, quick: bool) -> keras.Model:
  """MobileNet-v1 of the ImageNet script; its first layer is dense."""
  width, size = (0.1, 64) if quick else (1.0, 224)
  model = rigl.keras.networks.mobilenet_v1(width=width, image_size=size)
  return with_zeros(model, sparsity, skip=1)


def perceptron(sparsity: float, quick: bool) -> keras.Model:
  """Three layers of one width."""
  width = 256 if quick else 4096
  model = keras.Sequential(
    [
      keras.Input([width]),
      *(keras.layers.Dense(width, "relu") for _ in range(2)),
      keras.layers.Dense(10),
    ]
  )
  return with_zeros(model, sparsity)


def with_zeros(
  model: keras.Model, sparsity: float, skip: int = 0
) -> keras.Model:
  """The model with random zeros in all kernels but the first and depthwise.

  Kernels are scaled for their inputs: without that, activations shrink from
  layer to layer, to numbers that processors are slow to compute with.
  """
  rng = np.random.default_rng(0)
  for layer in model.layers:
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
      continue
    share = 1.0
    inputs = math.prod(kernel.shape[:-1])
    if isinstance(layer, keras.layers.DepthwiseConv2D):
      inputs = math.prod(kernel.shape[:2])
    elif skip:
      skip -= 1
    else:
      share -= sparsity
    value = rng.normal(0, math.sqrt(2 / inputs / share), kernel.shape)
    kernel.assign(value * (rng.random(kernel.shape) < share))
  return model


class Network(NamedTuple):
  """A network, and the numbers of examples per call it is measured with."""

  make: Callable[[float, bool], keras.Model]
  batch_sizes: tuple[int, ...]


NETWORKS = {
  "mobilenet_v1": Network(mobilenet, (1,)),
  "fully_connected_4096": Network(perceptron, (1, 16)),
}


def timed(function: Callable[[], Any]) -> Run:
  """A function as a call with its time."""

  def run() -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)

  return run


def litert_run(place: pathlib.Path, inputs: np.ndarray) -> Run:
  """A call of a LiteRT file with one thread."""
  runner = interpreter.make_interpreter(place.read_bytes(), 1)
  runner.allocate_tensors()
  (argument,) = runner.get_input_details()
  runner.set_tensor(argument["index"], inputs)
  return timed(runner.invoke)


def wasm_run(
  node: litert_node.NodeRuntime,
  place: pathlib.Path,
  model: keras.Model,
  inputs: np.ndarray,
) -> Run:
  """A call of a LiteRT file in WebAssembly; its results are compared once."""
  name = model.inputs[0].name
  number = node.load(place, {name: inputs})
  (found,) = node.results(number).values()
  expected = interpreter.run(place.read_bytes(), {name: inputs})
  (wanted,) = expected.values()
  tolerance = 0.05 * np.ptp(wanted)  # Of int8; a wrong kernel is far beyond.
  np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
  return lambda: node.run(number)


def tensorflow_run(model: keras.Model, inputs: np.ndarray) -> Run:
  """A call of the network in TensorFlow."""
  function = tf.function(lambda x: model(x, training=False), autograph=False)
  tensor = tf.constant(inputs)
  return timed(lambda: function(tensor).numpy())


def onnx_run(model: keras.Model, inputs: np.ndarray) -> Run | None:
  """A call in ONNX Runtime; None without it or without a converter."""
  try:
    import onnxruntime
    import tf2onnx
  except ImportError:
    return None
  spec = [tf.TensorSpec(inputs.shape, tf.float32, "x")]
  function = tf.function(lambda x: model(x, training=False))
  converted, _ = tf2onnx.convert.from_function(function, spec)
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = 1
  session = onnxruntime.InferenceSession(
    converted.SerializeToString(), options, ["CPUExecutionProvider"]
  )
  return timed(lambda: session.run(None, {"x": inputs}))


def medians(runs: dict[str, Run], calls: int) -> dict[str, float]:
  """The median time of each run in milliseconds; the runs alternate."""
  times: dict[str, list[float]] = {name: [] for name in runs}
  for run in runs.values():
    run()
  for _ in range(calls):
    for name, run in runs.items():
      times[name].append(run())
  return {name: statistics.median(found) for name, found in times.items()}


def measure(
  name: str, sparsity: float, batch_size: int, quick: bool
) -> list[tuple[str, float, float, int | None]]:
  """(runtime, milliseconds, speed-up, bytes of the file) of one network."""
  model = NETWORKS[name].make(sparsity, quick)
  shape = [batch_size, *model.input_shape[1:]]
  inputs = np.random.default_rng(1).random(shape, np.float32)
  runs: dict[str, Run] = {}
  sizes: dict[str, int] = {}
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    node = None
    if not litert_node.missing():
      node = stack.enter_context(litert_node.NodeRuntime())
    for kind, options in FILES.items():
      place = pathlib.Path(folder) / f"{kind.split(',')[0]}.tflite"
      report = rigl.export(
        model, place, "litert", batch_size=batch_size, **options
      )
      runs[f"{LITERT} {kind}"] = litert_run(place, inputs)
      sizes[f"{LITERT} {kind}"] = report.num_bytes
      if node is not None:
        runs[f"{WASM} {kind}"] = wasm_run(node, place, model, inputs)
        sizes[f"{WASM} {kind}"] = report.num_bytes
    runs["TensorFlow"] = tensorflow_run(model, inputs)
    onnx = onnx_run(model, inputs)
    if onnx is not None:
      runs["ONNX Runtime"] = onnx
    found = medians(runs, 5 if quick else 50)
  return [
    (
      label,
      found[label],
      found[dense_of(label)] / found[label],
      sizes.get(label),
    )
    for label in sorted(runs, key=lambda label: label.split()[0] == WASM)
  ]


def dense_of(label: str) -> str:
  """The dense file that a row is compared with."""
  runtime = label.split()[0]
  return f"{runtime if runtime in (LITERT, WASM) else LITERT} dense"


def main() -> None:
  """Prints one table per network and sparsity."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--quick", action="store_true", help="small networks, few calls"
  )
  parser.add_argument(
    "--networks",
    nargs="+",
    choices=NETWORKS,
    default=[*NETWORKS],
    help="networks to time; default: all",
  )
  parser.add_argument(
    "--sparsities",
    nargs="+",
    type=argument_types.sparsity,
    default=[0.75, 0.9, 0.95],
    help="shares of zeros; default: 0.75 0.9 0.95",
  )
  parser.add_argument(
    "--batch_sizes",
    nargs="+",
    type=argument_types.count,
    help="examples per call; default: those of the network",
  )
  args = parser.parse_args()
  os.environ.setdefault("OMP_NUM_THREADS", "1")
  tf.config.threading.set_intra_op_parallelism_threads(1)
  missing = litert_node.missing()
  if missing:
    print(f"{WASM} left out: {missing}.")
  for name in args.networks:
    for batch_size in args.batch_sizes or NETWORKS[name].batch_sizes:
      for sparsity in args.sparsities:
        print_table(name, sparsity, batch_size, args.quick)


def print_table(
  name: str, sparsity: float, batch_size: int, quick: bool
) -> None:
  """Measures a network and prints its rows."""
  rows = measure(name, sparsity, batch_size, quick)
  print(f"\n{name}, {sparsity:.0%} of the weights zero, batch {batch_size}")
  print(f"{'runtime':24}{'ms':>10}{'speed-up':>10}{'MB':>8}")
  for label, milliseconds, speedup, size in rows:
    megabytes = "" if size is None else f"{size / 1e6:.2f}"
    print(
      f"{label:24}{milliseconds:10.3f}{speedup:10.2f}{megabytes:>8}",
      flush=True,
    )


if __name__ == "__main__":
  main()
