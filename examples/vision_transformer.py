# SPDX-License-Identifier: Apache-2.0
"""A small Vision Transformer on MNIST, four of five weights zero.

  python examples/vision_transformer.py
  python examples/vision_transformer.py --quick    a few seconds, to see it run

The projections of attention become sparse like the dense layers. Biases, the
normalizations and the embedding of the positions stay dense.
"""

import argparse

import keras
from keras import layers

import rigl
from rigl.mnist.mnist_data import load_mnist


class Positions(layers.Layer):
  """Adds a learned vector to every token."""

  def build(self, shape):
    """Makes the vectors."""
    self.vectors = self.add_weight(shape[1:], "normal", name="vectors")

  def call(self, tokens):
    """Maps [batch, tokens, width] to the same shape."""
    return tokens + self.vectors


def make_model(width=64, heads=4, depth=4, patch=4):
  """Patches -> blocks of attention and a perceptron -> the mean token."""
  images = keras.Input([28, 28, 1])
  tokens = layers.Conv2D(width, patch, patch, name="patches")(images)
  tokens = Positions()(layers.Reshape([-1, width])(tokens))
  for _ in range(depth):
    inputs = layers.LayerNormalization()(tokens)
    attention = layers.MultiHeadAttention(heads, width // heads)
    tokens = layers.Add()([tokens, attention(inputs, inputs)])
    inputs = layers.LayerNormalization()(tokens)
    inputs = layers.Dense(4 * width, "gelu")(inputs)
    tokens = layers.Add()([tokens, layers.Dense(width)(inputs)])
  features = layers.GlobalAveragePooling1D()(
    layers.LayerNormalization()(tokens)
  )
  return keras.Model(images, layers.Dense(10, name="logits")(features))


def main():
  """Trains and shows the sparsity of every layer."""
  parser = argparse.ArgumentParser(
    description=__doc__.split("\n")[0],
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  parser.add_argument(
    "--sparsity", type=float, default=0.8, help="share of zeros"
  )
  parser.add_argument("--epochs", type=int, default=3, help="epochs to train")
  parser.add_argument(
    "--quick", action="store_true", help="a short run, to see that it works"
  )
  flags = parser.parse_args()
  keras.utils.set_random_seed(0)

  x, y, test_x, test_y = load_mnist()
  x, test_x = (
    x.reshape(-1, 28, 28, 1) / 255,
    test_x.reshape(-1, 28, 28, 1) / 255,
  )
  if flags.quick:
    flags.epochs, x, y, test_x, test_y = 1, x[:640], y[:640], test_x, test_y
    test_x, test_y = test_x[:200], test_y[:200]
  steps = flags.epochs * len(x) // 128

  model = make_model(depth=1) if flags.quick else make_model()
  warm_up = keras.optimizers.schedules.CosineDecay(
    1e-5, steps, warmup_target=1e-3, warmup_steps=steps // 10
  )
  optimizer = rigl.keras.RigL(
    keras.optimizers.AdamW(warm_up, weight_decay=0.05),
    sparsity=flags.sparsity,
    filters=["attention", "dense"],  # Not the patches and the logits.
    end_step=int(0.75 * steps),
    frequency=max(steps // 30, 1),
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


if __name__ == "__main__":
  main()
