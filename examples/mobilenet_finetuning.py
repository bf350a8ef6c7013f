# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes MobileNetV2 of keras.applications while it becomes sparse.

  python examples/mobilenet_finetuning.py
  python examples/mobilenet_finetuning.py --quick    random weights, seconds

Gradual pruning removes the smallest weights of a trained network step by step.
RigL would start from random connections and destroy it. Without internet access
the weights are random and the images are those of MNIST.
"""

import argparse

import keras
import numpy as np
from keras import layers

import rigl
from rigl.mnist.mnist_data import load_mnist

SIDE = 96


def load(quick):
  """Returns colour images in [0, 255] and labels: training, then test."""
  if not quick:
    try:
      (x, y), (test_x, test_y) = keras.datasets.cifar10.load_data()
      return x, y, test_x, test_y
    except Exception as error:
      print(f"CIFAR-10 cannot be downloaded ({error}): MNIST instead.")
  x, y, test_x, test_y = load_mnist()
  n, m = (64, 32) if quick else (10_000, 1_000)
  return colour(x[:n]), y[:n], colour(test_x[:m]), test_y[:m]


def colour(digits):
  """Maps [count, 784] to [count, 28, 28, 3]."""
  return np.repeat(digits.reshape(-1, 28, 28, 1), 3, axis=-1)


def make_backbone(quick):
  """MobileNetV2 without its last layer, trained on ImageNet if possible."""
  make = keras.applications.MobileNetV2
  options = {"input_shape": (SIDE, SIDE, 3), "include_top": False}
  if not quick:
    try:
      return make(**options, weights="imagenet", pooling="avg")
    except Exception as error:
      print(f"No weights to download ({error}): random ones.")
  return make(**options, weights=None, pooling="avg", alpha=0.35)


def main():
  """Trains the new head, then everything, sparser and sparser."""
  parser = argparse.ArgumentParser(
    description=__doc__.split("\n")[0],
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  parser.add_argument(
    "--sparsity", type=float, default=0.75, help="share of zeros"
  )
  parser.add_argument("--epochs", type=int, default=5, help="epochs to train")
  parser.add_argument(
    "--quick", action="store_true", help="a short run, to see that it works"
  )
  flags = parser.parse_args()
  keras.utils.set_random_seed(0)
  x, y, test_x, test_y = load(flags.quick)
  epochs = 1 if flags.quick else flags.epochs

  backbone = make_backbone(flags.quick)
  images = keras.Input(x.shape[1:])
  resized = layers.Rescaling(1 / 127.5, -1)(layers.Resizing(SIDE, SIDE)(images))
  model = keras.Model(images, layers.Dense(10)(backbone(resized)))
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

  backbone.trainable = False  # The head first.
  model.compile("adam", loss, metrics=["accuracy"])
  model.fit(x, y, 32, epochs=1, verbose=2)

  backbone.trainable = True
  steps = epochs * int(np.ceil(len(x) / 32))
  optimizer = rigl.keras.GradualPruning(
    keras.optimizers.SGD(0.01, momentum=0.9),
    sparsity=flags.sparsity,
    end_step=int(0.75 * steps),
    frequency=max(steps // 50, 1),
  )
  model.compile(optimizer, loss, metrics=["accuracy"])
  model.fit(x, y, 32, epochs, validation_data=(test_x, test_y), verbose=2)
  print(rigl.keras.summarize_sparsity(model))


if __name__ == "__main__":
  main()
