# SPDX-License-Identifier: Apache-2.0
"""A perceptron for tabular data: RigL finds the columns that matter.

  python examples/tabular_mlp.py
  python examples/tabular_mlp.py --quick    a few seconds, to see it run

The table is Friedman's (1991): 5 of its 50 columns decide the result,
y = 10 sin(pi a b) + 20 (c - 1/2)^2 + 10 d + 5 e + noise. More connections
grow from these columns than from the others, above all from a, b and d.
"""

import argparse

import keras
import numpy as np
from keras import layers

import rigl

COLUMNS, USED = 50, 5


def make_table(rows, rng):
  """Returns columns, float [rows, 50] in [0, 1], and results [rows, 1]."""
  x = rng.uniform(size=[rows, COLUMNS])
  a, b, c, d, e = x[:, :USED].T
  y = 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e
  return x, (y + rng.normal(size=rows))[:, None]


def main():
  """Trains, and counts the connections of every column."""
  parser = argparse.ArgumentParser(
    description=__doc__.split("\n")[0],
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  parser.add_argument(
    "--sparsity", type=float, default=0.9, help="share of zeros"
  )
  parser.add_argument("--epochs", type=int, default=30, help="epochs to train")
  parser.add_argument(
    "--quick", action="store_true", help="a short run, to see that it works"
  )
  flags = parser.parse_args()
  keras.utils.set_random_seed(0)

  rng = np.random.default_rng(0)
  rows, epochs = (1_000, 2) if flags.quick else (10_000, flags.epochs)
  x, y = make_table(rows, rng)
  test_x, test_y = make_table(2_000, rng)
  steps = epochs * int(np.ceil(rows / 64))

  normalize = layers.Normalization()
  normalize.adapt(x)
  first = layers.Dense(128, "relu")
  model = keras.Sequential(
    [
      keras.Input([COLUMNS]),
      normalize,
      first,
      layers.Dense(64, "relu"),
      layers.Dense(1),
    ]
  )
  model.compile(
    optimizer=rigl.keras.RigL(
      keras.optimizers.Adam(1e-3),
      sparsity=flags.sparsity,
      end_step=int(0.75 * steps),
      frequency=max(steps // 50, 1),
    ),
    loss="mse",
  )
  model.fit(x, y, 64, epochs, validation_data=(test_x, test_y), verbose=2)

  mask = model.optimizer.masks[first.kernel.path].numpy()
  connections = mask.sum(axis=1)
  used, unused = connections[:USED], connections[USED:]
  print(f"connections of the columns that matter: {used.tolist()}")
  print(
    f"of each of the other {COLUMNS - USED}: {unused.mean():.1f} on average"
  )


if __name__ == "__main__":
  main()
