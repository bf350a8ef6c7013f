# SPDX-License-Identifier: Apache-2.0
"""A training loop of your own: `apply_gradients` does all that is needed.

  python examples/custom_loop.py
  python examples/custom_loop.py --quick

The data is MNIST, a part of rigl. --quick takes a few seconds.
"""

import argparse

import keras
import tensorflow as tf
from keras import layers

import rigl
from rigl.mnist.mnist_data import load_mnist


def main():
  """Trains a perceptron on MNIST and prints what happens to its masks."""
  parser = argparse.ArgumentParser(
    description=__doc__.split("\n")[0],
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  parser.add_argument(
    "--sparsity", type=float, default=0.95, help="share of zeros"
  )
  parser.add_argument("--steps", type=int, default=3000, help="gradient steps")
  parser.add_argument(
    "--quick", action="store_true", help="a short run, to see that it works"
  )
  flags = parser.parse_args()
  steps = 60 if flags.quick else flags.steps
  keras.utils.set_random_seed(0)

  x, y, test_x, test_y = load_mnist()
  dataset = tf.data.Dataset.from_tensor_slices((x, y))
  dataset = dataset.shuffle(len(x), seed=0).repeat().batch(100).take(steps)

  model = keras.Sequential(
    [
      keras.Input([784]),
      layers.Rescaling(1 / 255),
      layers.Dense(300, "relu"),
      layers.Dense(100, "relu"),
      layers.Dense(10),
    ]
  )
  loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  optimizer = rigl.keras.RigL(
    keras.optimizers.SGD(0.1, momentum=0.9),
    sparsity=flags.sparsity,
    end_step=int(0.75 * steps),
    frequency=steps // 30,
  )
  optimizer.build(model.trainable_variables)  # Now there are masks.

  @tf.function
  def train(images, labels):
    with tf.GradientTape() as tape:
      loss = loss_of(labels, model(images, training=True))
    variables = model.trainable_variables
    # The gradients are dense: RigL grows the connections that they ask for.
    gradients = tape.gradient(loss, variables)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return loss

  for step, (images, labels) in enumerate(dataset, start=1):
    loss = train(images, labels)
    if step % (steps // 6) == 0:
      print(f"step {step}: loss {float(loss):.4f}")

  logits = model.predict(test_x, batch_size=1000, verbose=0)
  accuracy = (logits.argmax(1) == test_y).mean()
  print(optimizer.summary())
  print(f"test accuracy {accuracy:.4f}")


if __name__ == "__main__":
  main()
