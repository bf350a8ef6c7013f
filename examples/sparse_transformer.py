# SPDX-License-Identifier: Apache-2.0
"""A small Transformer on MNIST whose MLPs store one in ten connections.

  python examples/sparse_transformer.py
  python examples/sparse_transformer.py --compute=auto
  python examples/sparse_transformer.py --quick    a few seconds, to see it run

An image is a sequence of its rows. `rigl.sparse.convert` replaces the dense
layers of an ordinary model. With --compute=auto a layer becomes sparse only if
that is faster on this machine; the others stay dense and get masks.
"""

import argparse

import keras
import numpy as np
from keras import layers

import rigl
from rigl.mnist.mnist_data import load_mnist


def make_model(width, depth, heads=4):
  """Rows -> blocks of attention and a perceptron -> the mean row."""
  images = keras.Input([784])
  rows = layers.Reshape([28, 28])(layers.Rescaling(1 / 255)(images))
  tokens = layers.Dense(width, name="embedding")(rows)
  for block in range(depth):
    inputs = layers.LayerNormalization()(tokens)
    attention = layers.MultiHeadAttention(heads, width // heads)
    tokens = layers.Add()([tokens, attention(inputs, inputs)])
    inputs = layers.LayerNormalization()(tokens)
    up = layers.Dense(4 * width, "gelu", name=f"mlp_up_{block}")(inputs)
    down = layers.Dense(width, name=f"mlp_down_{block}")(up)
    tokens = layers.Add()([tokens, down])
  features = layers.GlobalAveragePooling1D()(
    layers.LayerNormalization()(tokens)
  )
  return keras.Model(images, layers.Dense(10, name="logits")(features))


def main():
  """Converts, trains with RigL, and converts back."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  add = parser.add_argument
  add("--sparsity", type=float, default=0.9, help="share of zeros (0.9)")
  add("--width", type=int, default=256, help="width of the model (256)")
  add("--epochs", type=int, default=1, help="epochs to train (1)")
  add(
    "--compute",
    choices=["sparse", "auto"],
    default="sparse",
    help="sparse: all MLPs; auto: where it is faster (sparse)",
  )
  add("--quick", action="store_true", help="a short run, to see it work")
  flags = parser.parse_args()
  keras.utils.set_random_seed(0)

  x, y, test_x, test_y = load_mnist()
  depth = 2
  if flags.quick:
    flags.width, depth, x, y = 32, 1, x[:640], y[:640]
    test_x, test_y = test_x[:200], test_y[:200]
  steps = flags.epochs * int(np.ceil(len(x) / 64))

  model = rigl.sparse.convert(
    make_model(flags.width, depth),
    flags.sparsity,
    filters="mlp_",
    compute=flags.compute,
    batch_size=64 * 28,  # Every row of every image passes through a layer.
  )
  optimizer = rigl.keras.RigL(
    keras.optimizers.Adam(1e-3),
    flags.sparsity,
    filters="mlp_",  # The rest stays dense.
    end_step=int(0.75 * steps),
    frequency=max(steps // 20, 1),
  )
  model.compile(
    optimizer=optimizer,
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  model.fit(x, y, 64, flags.epochs, validation_data=(test_x, test_y), verbose=2)
  print(optimizer.summary())
  for layer in model.layers:
    if "mlp_" in layer.name:
      print(f"{layer.name}: {type(layer).__name__}")

  dense = rigl.sparse.to_dense(model)
  difference = abs(
    dense.predict(test_x, verbose=0) - model.predict(test_x, verbose=0)
  ).max()
  print(f"logits of the dense model differ by at most {difference:.1e}")


if __name__ == "__main__":
  main()
