# SPDX-License-Identifier: Apache-2.0
"""Trains and exports the networks of the page.

  python examples/web/make_models.py
  python examples/web/make_models.py --quick

Two MNIST networks are trained as by the script, one dense and one with RigL.
There are no ImageNet weights to ship, so MobileNet-v1 has random ones, unless
--mobilenet names two runs of the ImageNet script: a dense and a sparse one.
--quick trains one epoch, and takes a small MobileNet.
"""

from __future__ import annotations

import argparse
import base64
import json
import pathlib
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import keras
import numpy as np
import tensorflow as tf

import rigl
from rigl.formats.litert import flatbuffer
from rigl.imagenet_resnet.input.preprocessing import MEAN_RGB, STDDEV_RGB
from rigl.mnist.mnist_data import load_mnist
from rigl.mnist.mnist_settings import MnistSettings
from rigl.mnist.mnist_trainer import build_trainer

HERE = pathlib.Path(__file__).resolve().parent
KINDS = ("dense", "sparse")
SPARSITY = 0.9  # Of MobileNet.
SEED = 0


def train_digits(runs: pathlib.Path, epochs: int) -> list[pathlib.Path]:
  """Trains both MNIST networks; resumes runs that exist."""
  steps = 600 * epochs
  folders = []
  # Masks without a zero: a dense network with the schedule of the sparse one.
  for method, sparsity in (("scratch", 0.0), ("rigl", 0.98)):
    folder = runs / f"mnist_{method}_{sparsity}_{epochs}"
    settings = MnistSettings(
      training_method=method,
      end_sparsity=sparsity,
      num_epochs=epochs,
      lr_drop_epoch=max(epochs * 3 // 4, 1),
      maskupdate_end_step=steps * 3 // 4,
      save_path=str(folder),
    )
    build_trainer(settings).train()
    folders.append(folder)
  return folders


def mobilenet(sparsity: float, width: float, size: int) -> keras.Model:
  """MobileNet-v1 of uint8 images, with random weights, zeros and statistics."""
  keras.utils.set_random_seed(SEED)
  network = rigl.keras.networks.mobilenet_v1(width=width, image_size=size)
  rng = np.random.default_rng(SEED)
  for layer in network.layers:
    if layer.name.startswith(("contraction", "final_dense")):
      kernel = np.asarray(layer.kernel)
      scale = (1 - sparsity) ** -0.5
      if layer.name == "final_dense":
        scale *= 10  # Or all classes would be equally probable.
      layer.kernel.assign(
        scale * kernel * (rng.random(kernel.shape) >= sparsity)
      )
    if isinstance(layer, keras.layers.BatchNormalization):
      layer.momentum = 0.0  # The statistics are those of one batch.
  coarse = rng.integers(0, 256, [16, 7, 7, 3], dtype=np.uint8)
  images = tf.image.resize(coarse, [size, size], "bicubic")
  network((images - MEAN_RGB) / STDDEV_RGB, training=True)
  pixels = keras.Input([size, size, 3], dtype="uint8", name="images")
  scaled = keras.layers.Rescaling(
    [1 / deviation for deviation in STDDEV_RGB],
    [-mean / dev for mean, dev in zip(MEAN_RGB, STDDEV_RGB, strict=True)],
  )(pixels)
  return keras.Model(pixels, network(scaled), name="mobilenet_v1")


def export(source: Any, place: pathlib.Path, **options: Any) -> dict[str, Any]:
  """Exports a network; returns what the page shows of it."""
  print(rigl.export(source, place, "litert", overwrite=True, **options))
  metadata = flatbuffer.read_metadata(place.read_bytes())
  shown = ("sparsity", "accuracy", "image_size")
  return {
    "file": place.name,
    **{name: metadata[name] for name in shown if name in metadata},
  }


def examples() -> list[dict[str, Any]]:
  """The first test image of each digit."""
  data = load_mnist()
  places = [int(np.argmax(data.test_labels == digit)) for digit in range(10)]
  return [
    {
      "label": digit,
      "pixels": base64.b64encode(data.test_images[place].tobytes()).decode(),
    }
    for digit, place in enumerate(places)
  ]


def main() -> None:
  """Writes the models and `models.json`, which lists them."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path, default=HERE / "models")
  parser.add_argument("--runs", type=pathlib.Path, default=HERE / "runs")
  parser.add_argument("--epochs", type=int, default=20)
  parser.add_argument("--mobilenet", nargs=2, metavar=("DENSE", "SPARSE"))
  parser.add_argument("--quick", action="store_true")
  arguments = parser.parse_args()
  output = arguments.output.resolve()
  output.mkdir(parents=True, exist_ok=True)
  epochs = 1 if arguments.quick else arguments.epochs
  width, size = (0.25, 96) if arguments.quick else (1.0, 224)
  pictures = arguments.mobilenet or [
    mobilenet(sparsity, width, size) for sparsity in (0.0, SPARSITY)
  ]
  sources = {
    "digits": train_digits(arguments.runs.resolve(), epochs),
    "pictures": pictures,
  }
  listed = {
    name: [
      export(source, output / f"{name}_{kind}.tflite", sparse=kind == "sparse")
      for kind, source in zip(KINDS, pair, strict=True)
    ]
    for name, pair in sources.items()
  }
  listed["digits"][1]["method"] = "RigL"
  sizes = {network.get("image_size", size) for network in listed["pictures"]}
  if len(sizes) > 1:
    parser.error(f"--mobilenet: images are of different sizes, {sizes}")
  content = {
    "digits": {"networks": listed["digits"], "examples": examples()},
    "pictures": {
      "networks": listed["pictures"],
      "trained": arguments.mobilenet is not None,
      "image_size": sizes.pop(),
    },
  }
  (output / "models.json").write_text(json.dumps(content))


if __name__ == "__main__":
  main()
