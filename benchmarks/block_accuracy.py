# SPDX-License-Identifier: Apache-2.0
"""Compares the test accuracy of MLPs: dense, masked, and of sparse blocks.

  python benchmarks/block_accuracy.py                          MNIST
  python benchmarks/block_accuracy.py --cifar10=DIRECTORY      CIFAR-10

DIRECTORY holds the official binary files of CIFAR-10. Two hidden layers are
sparse, the last layer is dense. All runs share the data, the learning rates and
the number of steps. The seed decides initial weights, masks and batches.
"""

import argparse
import json
import pathlib
import statistics
import time
from typing import Any

from rigl import needs_tensorflow  # noqa: F401

# isort: split
import argument_types
import numpy as np
import tensorflow as tf

import rigl
from rigl import sparse_utils
from rigl.cifar_resnet.cifar_data import load_cifar
from rigl.mnist.mnist_data import load_mnist
from rigl.sparse import BlockSparseDense

_BATCH = 128
# Name in the table: whether its connections are blocks, and the method.
_METHODS = {
  "dense": (False, "dense"),
  "RigL": (False, "rigl"),
  "fixed masks": (False, "fixed"),
  "block-RigL": (True, "rigl"),
  "block-SET": (True, "set"),
  "fixed blocks": (True, "fixed"),
}


def load(cifar10: str, quick: bool) -> list[np.ndarray]:
  """Returns flat images in [-1, 1] and labels: training, then test."""
  data = load_cifar(cifar10) if cifar10 else load_mnist()
  arrays = [np.asarray(array) for array in data]
  for i in (0, 2):
    images = arrays[i].astype("float32") / 127.5 - 1
    if not cifar10:  # 32 x 32 pixels, which blocks of many sizes divide.
      images = images.reshape(-1, 28, 28)
      images = np.pad(images, [(0, 0), (2, 2), (2, 2)], constant_values=-1)
    arrays[i] = images.reshape(len(images), -1)
    arrays[i + 1] = arrays[i + 1].astype("int32")
  return [array[:512] for array in arrays] if quick else arrays


class Network:
  """An MLP with two hidden layers, and its optimizer.

  Args:
    name: row of the table.
    inputs: number of inputs.
    steps: number of training steps.
    seed: decides everything.
    flags: those of the command line.
  """

  def __init__(
    self,
    name: str,
    inputs: int,
    steps: int,
    seed: int,
    flags: argparse.Namespace,
  ) -> None:
    is_blocks, method = _METHODS[name]
    sizes = [(inputs, flags.width), (flags.width, flags.width)]
    layers = [
      BlockSparseDense(
        *size, flags.sparsity, block=flags.block, seed=seed, name=f"layer{i}"
      )
      for i, size in enumerate(sizes)
    ]
    # The masks without blocks are as sparse as those of blocks.
    masks = {
      layer.name: sparse_utils.get_mask_random(
        size, layer.sparsity, seed, layer.name
      )
      for layer, size in zip(layers, sizes, strict=True)
    }
    self.count = tf.Variable(0, dtype=tf.int64)
    self.optimizer = _optimizer(method, self.count, steps, seed)
    self.biases = [tf.Variable(tf.zeros([size[1]])) for size in sizes]
    if is_blocks:
      self.products = list(layers)
      self.optimizer.create_masks(layers)
      self.biases = [layer.bias for layer in layers]
    else:
      rng = np.random.default_rng(seed)
      kernels = {}
      for layer, size in zip(layers, sizes, strict=True):
        fan_in = size[0] * (1 if method == "dense" else 1 - layer.sparsity)
        kernels[layer.name] = tf.Variable(
          rng.normal(0, (2 / fan_in) ** 0.5, size).astype("float32")
        )
      self.products = [
        lambda x, w=w, b=b: x @ w + b
        for w, b in zip(kernels.values(), self.biases, strict=True)
      ]
      if method != "dense":
        self.optimizer.create_masks(kernels, masks)
    weights = (
      [layer.values for layer in layers]
      if is_blocks
      else list(kernels.values())
    )
    rng = np.random.default_rng(seed + 1)
    last = rng.normal(0, flags.width**-0.5, (flags.width, 10))
    self.last = tf.Variable(last.astype("float32"))
    self.last_bias = tf.Variable(tf.zeros([10]))
    self.variables = [*weights, *self.biases, self.last, self.last_bias]

  def logits(self, x: Any) -> Any:
    """The output for images [batch, inputs]."""
    for product in self.products:
      x = tf.nn.relu(product(x))
    return x @ self.last + self.last_bias

  def step(self, x: Any, y: Any) -> Any:
    """One training iteration; returns the loss."""
    with tf.GradientTape() as tape:
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, self.logits(x))
      loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, self.variables)
    pairs = list(zip(gradients, self.variables, strict=True))
    self.optimizer.apply_gradients(pairs, self.count)
    return loss


def _optimizer(
  method: str, count: tf.Variable, steps: int, seed: int
) -> rigl.sparse_optimizers.SparseOptimizer:
  """Momentum with a cosine rate, within a sparse optimizer."""

  def rate() -> Any:
    passed = tf.cast(count, tf.float32) / steps
    return 0.05 * (1 + tf.cos(np.pi * tf.minimum(passed, 1.0))) / 2

  inner = tf.compat.v1.train.MomentumOptimizer(rate, 0.9)
  options: dict[str, Any] = {"seed": seed, "weight_decay": 1e-4}
  if method in ("dense", "fixed"):
    return rigl.SparseFixedMaskOptimizer(inner, **options)
  kind = {"rigl": rigl.SparseRigLOptimizer, "set": rigl.SparseSETOptimizer}
  return kind[method](
    inner,
    begin_step=0,
    end_step=int(0.75 * steps),
    frequency=max(steps // 60, 1),
    drop_fraction=0.3,
    drop_fraction_anneal="cosine",
    **options,
  )


def accuracy_of(
  name: str, seed: int, arrays: list[np.ndarray], flags: argparse.Namespace
) -> float:
  """Trains once; returns the test accuracy after the last step, in percent."""
  x, y, test_x, test_y = arrays
  per_epoch = len(x) // _BATCH
  steps = flags.epochs * per_epoch
  network = Network(name, x.shape[1], steps, seed, flags)
  step = tf.function(network.step, autograph=False)
  start = time.monotonic()
  for epoch in range(flags.epochs):
    order = np.random.default_rng([seed, epoch]).permutation(len(x))
    for i in range(per_epoch):
      batch = order[i * _BATCH : (i + 1) * _BATCH]
      step(tf.constant(x[batch]), tf.constant(y[batch]))
  found = [
    np.argmax(network.logits(test_x[i : i + 1000]), 1)
    for i in range(0, len(test_x), 1000)
  ]
  accuracy = 100 * float(np.mean(np.concatenate(found) == test_y))
  print(
    f"{name}, seed {seed}: {accuracy:.2f} % ({time.monotonic() - start:.0f} s)",
    flush=True,
  )
  return accuracy


def main() -> None:
  """Trains every method with every seed and prints a table."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("--cifar10", default="", help="directory of its files")
  parser.add_argument("--width", type=argument_types.count, default=1024)
  parser.add_argument("--block", type=argument_types.count, default=16)
  parser.add_argument("--sparsity", type=argument_types.sparsity, default=0.9)
  parser.add_argument("--epochs", type=argument_types.count, default=5)
  parser.add_argument("--seeds", type=argument_types.count, default=3)
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
    flags.width, flags.sparsity = 64, 0.75
  try:
    arrays = load(flags.cifar10, flags.quick)
  except (ValueError, OSError) as error:
    parser.error(str(error))
  for name, size in (("width", flags.width), ("image", arrays[0].shape[1])):
    if size % flags.block:
      parser.error(
        f"--block must divide the size of the {name}, {size}, got "
        f"{flags.block}."
      )
  found: dict[str, list[float]] = {name: [] for name in flags.methods}
  for seed in range(flags.seeds):
    for name, values in found.items():
      values.append(accuracy_of(name, seed, arrays, flags))
  print("| method | test accuracy | of the seeds |\n| --- | --- | --- |")
  for name, values in found.items():
    mean = statistics.mean(values)
    listed = ", ".join(f"{value:.2f}" for value in values)
    print(f"| {name} | {mean:.2f} | {listed} |")
  if flags.json:
    content = {"settings": vars(flags), "accuracy": found}
    text = json.dumps(content, indent=2) + "\n"
    pathlib.Path(flags.json).write_text(text, "utf-8")


if __name__ == "__main__":
  main()
