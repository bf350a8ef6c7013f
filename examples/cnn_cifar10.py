# SPDX-License-Identifier: Apache-2.0
"""A convolutional network on CIFAR-10, nine of ten weights zero.

  python examples/cnn_cifar10.py
  python examples/cnn_cifar10.py --data=mnist
  python examples/cnn_cifar10.py --quick

CIFAR-10 is downloaded, MNIST is a part of rigl. --quick takes a few seconds.
"""

import argparse

import keras
import numpy as np
from keras import layers

import rigl
from rigl.mnist.mnist_data import load_mnist


def load(name):
  """Returns images in [0, 1] and labels: training, then test."""
  if name == "cifar10":
    try:
      (x, y), (test_x, test_y) = keras.datasets.cifar10.load_data()
      return x / 255.0, y, test_x / 255.0, test_y
    except Exception as error:
      print(f"CIFAR-10 cannot be downloaded ({error}): MNIST instead.")
  x, y, test_x, test_y = load_mnist()  # A part of rigl.
  shape = [-1, 28, 28, 1]
  return x.reshape(shape) / 255.0, y, test_x.reshape(shape) / 255.0, test_y


def make_model(image_shape):
  """An ordinary Keras model: nothing in it knows about sparsity."""
  model = keras.Sequential([keras.Input(image_shape)])
  for filters, strides in [(32, 1), (64, 2), (128, 2)]:
    model.add(layers.Conv2D(filters, 3, strides, "same", use_bias=False))
    model.add(layers.BatchNormalization())
    model.add(layers.ReLU())
  model.add(layers.GlobalAveragePooling2D())
  model.add(layers.Dense(10))
  return model


def main():
  """Trains, evaluates and saves."""
  parser = argparse.ArgumentParser(
    description=__doc__.split("\n")[0],
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  parser.add_argument(
    "--data", choices=["cifar10", "mnist"], default="cifar10", help="data set"
  )
  parser.add_argument(
    "--sparsity", type=float, default=0.9, help="share of zeros"
  )
  parser.add_argument("--epochs", type=int, default=10, help="epochs to train")
  parser.add_argument(
    "--output", default="cnn.keras", help="file of the trained model"
  )
  parser.add_argument(
    "--quick", action="store_true", help="a short run, to see that it works"
  )
  flags = parser.parse_args()
  keras.utils.set_random_seed(0)

  x, y, test_x, test_y = load("mnist" if flags.quick else flags.data)
  if flags.quick:
    flags.epochs, x, y, test_x, test_y = 1, x[:640], y[:640], test_x, test_y
    test_x, test_y = test_x[:500], test_y[:500]
  x, test_x = x.astype("float32"), test_x.astype("float32")
  steps = flags.epochs * int(np.ceil(len(x) / 64))

  model = make_model(x.shape[1:])
  schedule = keras.optimizers.schedules.CosineDecay(0.1, steps)
  optimizer = rigl.keras.RigL(
    keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
    sparsity=flags.sparsity,
    end_step=int(0.75 * steps),  # Then the connections are left alone.
    frequency=max(steps // 50, 1),
  )
  model.compile(
    optimizer=optimizer,
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  model.fit(x, y, 64, flags.epochs, validation_data=(test_x, test_y), verbose=2)
  print(rigl.keras.summarize_sparsity(model))

  # The file of the plain model needs no rigl to be loaded.
  rigl.keras.strip(model).save(flags.output)
  _, accuracy = keras.models.load_model(flags.output).evaluate(
    test_x, test_y, verbose=0
  )
  print(f"{flags.output}: test accuracy {accuracy:.4f}")


if __name__ == "__main__":
  main()
