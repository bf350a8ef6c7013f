# SPDX-License-Identifier: Apache-2.0
"""A wide perceptron on MNIST that stores only one of twenty connections.

  python examples/sparse_mlp.py
  python examples/sparse_mlp.py --width=32768 --sparsity=0.995
  python examples/sparse_mlp.py --quick    a few seconds, to see it run

Masks simulate sparsity. These layers store only their connections: time and
memory of a step are proportional to their number. The extra `sparse` installs
Numba, which makes them fast.
"""

import argparse

import keras
import numpy as np
from keras import layers

import rigl
from rigl.mnist.mnist_data import load_mnist


def main():
  """Trains with RigL, and saves the network as an ordinary one."""
  parser = argparse.ArgumentParser(
    description=__doc__.split("\n")[0],
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  parser.add_argument(
    "--width", type=int, default=2000, help="units per hidden layer"
  )
  parser.add_argument(
    "--sparsity", type=float, default=0.95, help="share of zeros"
  )
  parser.add_argument("--epochs", type=int, default=2, help="epochs to train")
  parser.add_argument(
    "--threads", type=int, default=1, help="threads per product"
  )
  parser.add_argument(
    "--quick", action="store_true", help="a short run, to see that it works"
  )
  flags = parser.parse_args()
  keras.utils.set_random_seed(0)

  x, y, test_x, test_y = load_mnist()
  if flags.quick:
    flags.width, flags.epochs, x, y = 200, 1, x[:1280], y[:1280]
  steps = flags.epochs * int(np.ceil(len(x) / 128))

  options = {"sparsity": flags.sparsity, "threads": flags.threads}
  model = keras.Sequential(
    [
      keras.Input([784]),
      layers.Rescaling(1 / 255),
      rigl.sparse.keras.SparseDense(flags.width, "relu", **options),
      rigl.sparse.keras.SparseDense(flags.width, "relu", **options),
      layers.Dense(10, name="logits"),
    ]
  )
  optimizer = rigl.keras.RigL(
    keras.optimizers.SGD(0.05, momentum=0.9),
    distribution={"logits": 0.0},  # The other layers have their connections.
    end_step=int(0.75 * steps),
    frequency=max(steps // 20, 1),
  )
  model.compile(
    optimizer=optimizer,
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  model.fit(
    x, y, 128, flags.epochs, validation_data=(test_x, test_y), verbose=2
  )
  print(optimizer.summary())

  size = sum(variable.numpy().nbytes for variable in model.variables)
  slots = sum(variable.numpy().nbytes for variable in optimizer.variables)
  whole = 8 * sum(kernel.size for kernel in optimizer.sparse_kernels)
  print(
    f"weights, positions and momentum: {(size + slots) / 1e6:.1f} MB; "
    f"dense kernels and momentum: {whole / 1e6:.1f} MB"
  )
  if flags.width <= 8192:  # A dense network must fit into memory.
    rigl.keras.strip(model).save("sparse_mlp.keras")
    plain = keras.models.load_model("sparse_mlp.keras")
    _, accuracy = plain.evaluate(test_x, test_y, verbose=0)
    print(f"sparse_mlp.keras: test accuracy {accuracy:.4f}")


if __name__ == "__main__":
  main()
