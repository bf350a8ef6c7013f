# SPDX-License-Identifier: Apache-2.0
"""Latency and size of dense and sparse files, batch 1, beside each other.

  python benchmarks/sparse_inference.py            # Takes about 10 minutes.
  python benchmarks/sparse_inference.py --quick    # Small networks, few calls.

Random masks: the time does not depend on which connections are active. LiteRT
(dense, sparse, int8), TensorFlow and, if it is installed, ONNX Runtime compute
with one thread; their calls alternate, and the median of each is printed, with
the dense file's time over it.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import keras
import numpy as np
import tensorflow as tf

import rigl
from rigl.formats.litert import interpreter

Run = Callable[[], Any]


def mobilenet(sparsity: float, quick: bool) -> keras.Model:
  """MobileNet-v1 as the ImageNet script has it; the first layer is dense."""
  width, size = (0.1, 64) if quick else (1.0, 224)
  layers = keras.layers
  images = keras.Input([size, size, 3], name="x")

  def conv(x: Any, filters: int, kernel: int, strides: int) -> Any:
    padding = "same"
    if strides == 2:
      x, padding = layers.ZeroPadding2D(1)(x), "valid"
    if filters:
      x = layers.Conv2D(filters, kernel, strides, padding, use_bias=False)(x)
    else:
      x = layers.DepthwiseConv2D(kernel, strides, padding, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))

  x = conv(images, max(int(32 * width), 8), 3, 2)
  for filters, strides in (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *([(512, 1)] * 5),
    *((1024, 2), (1024, 1)),
  ):
    x = conv(conv(x, 0, 3, strides), max(int(filters * width), 8), 1, 1)
  x = layers.GlobalAveragePooling2D()(x)
  model = keras.Model(images, layers.Dense(1000)(x))
  return with_zeros(model, sparsity, skip=1)


def perceptron(sparsity: float, quick: bool) -> keras.Model:
  """Three layers of one width."""
  width = 256 if quick else 4096
  model = keras.Sequential(
    [
      keras.Input([width], name="x"),
      *(keras.layers.Dense(width, "relu") for _ in range(2)),
      keras.layers.Dense(10),
    ]
  )
  return with_zeros(model, sparsity)


def with_zeros(
  model: keras.Model, sparsity: float, skip: int = 0
) -> keras.Model:
  """The model with random zeros in all kernels but the first and depthwise."""
  rng = np.random.default_rng(0)
  kernels = [
    layer.kernel
    for layer in model.layers
    if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)
  ]
  for kernel in kernels[skip:]:
    value = np.asarray(kernel.numpy())
    kernel.assign(value * (rng.random(value.shape) >= sparsity))
  return model


NETWORKS = {"mobilenet_v1": mobilenet, "fully_connected_4096": perceptron}


def litert_run(place: pathlib.Path, image: np.ndarray) -> Run:
  """A call of a LiteRT file with one thread."""
  runner = interpreter.make_interpreter(place.read_bytes(), 1)
  runner.allocate_tensors()
  (argument,) = runner.get_input_details()
  runner.set_tensor(argument["index"], image)
  return runner.invoke


def tensorflow_run(model: keras.Model, image: np.ndarray) -> Run:
  """A call of the network in TensorFlow."""
  function = tf.function(lambda x: model(x, training=False), autograph=False)
  tensor = tf.constant(image)
  return lambda: function(tensor).numpy()


def onnx_run(model: keras.Model, image: np.ndarray) -> Run | None:
  """A call in ONNX Runtime; None without it or without a converter."""
  try:
    import onnxruntime
    import tf2onnx
  except ImportError:
    return None
  spec = [tf.TensorSpec(image.shape, tf.float32, "x")]
  function = tf.function(lambda x: model(x, training=False))
  converted, _ = tf2onnx.convert.from_function(function, spec)
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = 1
  session = onnxruntime.InferenceSession(
    converted.SerializeToString(), options, ["CPUExecutionProvider"]
  )
  return lambda: session.run(None, {"x": image})


def medians(runs: dict[str, Run], calls: int) -> dict[str, float]:
  """The median time of each run in milliseconds; the runs alternate."""
  times: dict[str, list[float]] = {name: [] for name in runs}
  for run in runs.values():
    run()
  for _ in range(calls):
    for name, run in runs.items():
      start = time.perf_counter()
      run()
      times[name].append(1e3 * (time.perf_counter() - start))
  return {name: statistics.median(found) for name, found in times.items()}


def measure(
  name: str, sparsity: float, folder: pathlib.Path, quick: bool
) -> list[tuple[str, float, int | None]]:
  """(runtime, milliseconds, bytes of the file) of one network."""
  model = NETWORKS[name](sparsity, quick)
  shape = [1, *model.input_shape[1:]]
  image = np.random.default_rng(1).random(shape, np.float32)
  runs: dict[str, Run] = {}
  sizes: dict[str, int] = {}
  for label, options in (
    ("LiteRT dense", {"sparse": False}),
    ("LiteRT sparse", {}),
    ("LiteRT int8, dense", {"dtype": "int8"}),
  ):
    place = folder / f"{name}_{sparsity}_{label.split()[1].strip(',')}.tflite"
    report = rigl.export(model, place, "litert", **options)
    runs[label], sizes[label] = litert_run(place, image), report.num_bytes
  runs["TensorFlow"] = tensorflow_run(model, image)
  onnx = onnx_run(model, image)
  if onnx is not None:
    runs["ONNX Runtime"] = onnx
  found = medians(runs, 5 if quick else 50)
  return [(label, found[label], sizes.get(label)) for label in runs]


def main() -> None:
  """Prints one table per network and sparsity."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--quick", action="store_true")
  parser.add_argument("--networks", nargs="*", default=[*NETWORKS])
  parser.add_argument(
    "--sparsities", nargs="*", type=float, default=[0.75, 0.9, 0.95]
  )
  arguments = parser.parse_args()
  os.environ.setdefault("OMP_NUM_THREADS", "1")
  tf.config.threading.set_intra_op_parallelism_threads(1)
  with tempfile.TemporaryDirectory() as folder:
    for name in arguments.networks:
      for sparsity in arguments.sparsities:
        print(f"\n{name}, {sparsity:.0%} of the weights zero, batch 1")
        print(f"{'runtime':20}{'ms':>10}{'over':>8}{'MB':>8}")
        rows = measure(name, sparsity, pathlib.Path(folder), arguments.quick)
        dense = rows[0][1]
        for label, milliseconds, size in rows:
          megabytes = "" if size is None else f"{size / 1e6:.2f}"
          print(
            f"{label:20}{milliseconds:10.3f}{dense / milliseconds:8.2f}"
            f"{megabytes:>8}",
            flush=True,
          )


if __name__ == "__main__":
  main()
