# SPDX-License-Identifier: Apache-2.0
"""Compares the test accuracy of small CNNs: dense, RigL, masks that stay.

  python benchmarks/keras_accuracy.py                          MNIST
  python benchmarks/keras_accuracy.py --cifar10=DIRECTORY      CIFAR-10

DIRECTORY holds the official binary files of CIFAR-10. All runs share the
model, the data, the learning rates and the number of steps. The seed decides
initial weights, masks and batches.
"""

import argparse
import json
import pathlib
import statistics
import time

from rigl import needs_tensorflow  # noqa: F401

# isort: split
import argument_types
import keras
import numpy as np
from keras import layers

import rigl
from rigl.cifar_resnet.cifar_data import load_cifar
from rigl.mnist.mnist_data import load_mnist

_METHODS = ("dense", "rigl", "static")
_BATCH = 128
_RATE = 0.1


def load(cifar10: str, quick: bool) -> list[np.ndarray]:
  """Returns images in [0, 1] and labels: training, then test."""
  data = load_cifar(cifar10) if cifar10 else load_mnist()
  arrays = [np.asarray(array) for array in data]
  for i in (0, 2):
    shape = [-1, 32, 32, 3] if cifar10 else [-1, 28, 28, 1]
    arrays[i] = arrays[i].reshape(shape).astype("float32") / 255
  return [array[:256] for array in arrays] if quick else arrays


def make_model(width: int, image_shape: tuple[int, ...]) -> keras.Model:
  """Three convolutions with batch normalization, mean, one dense layer.

  Args:
    width: times 32 filters in the first convolution.
    image_shape: [height, width, channels].
  """
  model = keras.Sequential([keras.Input(image_shape)])
  if image_shape[-1] == 3:  # Photographs look the same in a mirror.
    model.add(layers.RandomFlip("horizontal"))
    model.add(layers.RandomTranslation(0.1, 0.1, fill_mode="reflect"))
  for filters in (32, 64, 128):
    model.add(layers.Conv2D(width * filters, 3, 2, "same", use_bias=False))
    model.add(layers.BatchNormalization())
    model.add(layers.ReLU())
  model.add(layers.GlobalAveragePooling2D())
  model.add(layers.Dense(10))
  return model


def make_lenet(width: int, image_shape: tuple[int, ...]) -> keras.Model:
  """Two convolutions with pooling, two dense layers: LeNet-5 with ReLU.

  Args:
    width: times 10 and 25 filters, and 250 units.
    image_shape: [height, width, channels].
  """
  model = keras.Sequential([keras.Input(image_shape)])
  for filters in (10, 25):
    model.add(layers.Conv2D(width * filters, 5, activation="relu"))
    model.add(layers.MaxPooling2D())
  model.add(layers.Flatten())
  model.add(layers.Dense(width * 250, activation="relu"))
  model.add(layers.Dense(10))
  return model


def make_optimizer(
  method: str, steps: int, seed: int, flags: argparse.Namespace
) -> keras.optimizers.Optimizer:
  """Momentum with a cosine rate, alone or within a sparse optimizer."""
  rate = keras.optimizers.schedules.CosineDecay(_RATE, steps)
  inner = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
  if method == "dense":
    return inner
  if method == "static":
    return rigl.keras.FixedMask(inner, sparsity=flags.sparsity, seed=seed)
  return rigl.keras.RigL(
    inner,
    sparsity=flags.sparsity,
    end_step=int(0.75 * steps),
    frequency=max(int(0.75 * steps) // flags.updates, 1),
    drop_fraction=flags.drop_fraction,
    seed=seed,
  )


_MODELS = {"cnn": make_model, "lenet": make_lenet}


def accuracy_of(
  method: str, seed: int, arrays: list[np.ndarray], flags: argparse.Namespace
) -> float:
  """Trains once; returns the test accuracy after the last step, in percent."""
  keras.utils.set_random_seed(seed)
  x, y, test_x, test_y = arrays
  steps = flags.epochs * -(-len(x) // _BATCH)
  model = _MODELS[flags.model](flags.width, x.shape[1:])
  model.compile(
    optimizer=make_optimizer(method, steps, seed, flags),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  start = time.monotonic()
  model.fit(x, y, _BATCH, flags.epochs, verbose=0)
  accuracy = 100 * model.evaluate(test_x, test_y, 500, verbose=0)[1]
  print(
    f"{method}, seed {seed}: {accuracy:.2f} % "
    f"({time.monotonic() - start:.0f} s)",
    flush=True,
  )
  return accuracy


def main() -> None:
  """Trains every method with every seed and prints a table."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("--cifar10", default="", help="directory of its files")
  parser.add_argument("--model", choices=sorted(_MODELS), default="lenet")
  parser.add_argument("--width", type=argument_types.count, default=2)
  parser.add_argument("--sparsity", type=argument_types.sparsity, default=0.9)
  parser.add_argument("--epochs", type=argument_types.count, default=6)
  parser.add_argument("--seeds", type=argument_types.count, default=3)
  parser.add_argument(
    "--updates",
    type=argument_types.count,
    default=45,
    help="RigL's mask updates",
  )
  parser.add_argument("--drop_fraction", type=argument_types.share, default=0.1)
  parser.add_argument(
    "--methods", nargs="+", choices=_METHODS, default=list(_METHODS)
  )
  parser.add_argument(
    "--json", type=argument_types.output, help="file of all figures"
  )
  parser.add_argument("--quick", action="store_true")
  flags = parser.parse_args()
  if flags.quick:
    flags.epochs, flags.seeds = 1, 1
  try:
    arrays = load(flags.cifar10, flags.quick)
  except (ValueError, OSError) as error:
    parser.error(str(error))
  found: dict[str, list[float]] = {method: [] for method in flags.methods}
  for seed in range(flags.seeds):
    for method, values in found.items():
      values.append(accuracy_of(method, seed, arrays, flags))
  print("\n| method | mean | lowest | highest |\n| --- | --- | --- | --- |")
  for method, values in found.items():
    mean = statistics.mean(values)
    print(f"| {method} | {mean:.2f} | {min(values):.2f} | {max(values):.2f} |")
  if flags.json:
    record = {**vars(flags), "json": None, "accuracy": found}
    text = json.dumps(record, indent=2) + "\n"
    pathlib.Path(flags.json).write_text(text, "utf-8")


if __name__ == "__main__":
  main()
