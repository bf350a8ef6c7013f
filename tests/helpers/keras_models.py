# SPDX-License-Identifier: Apache-2.0
"""Three tiny Keras models, their data, and what sparse training promises."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import rigl.keras as sparse_keras

CLASSES = 3
EXAMPLES = 16
SPARSITY = 0.6

# Methods that train inactive weights beside the kernel, and their slots.
TRAIN_INACTIVE = {"dnw", "top_kast"}
# Arguments of each method, for updates within a few steps.
ARGUMENTS: dict[str, dict[str, Any]] = {
  "dnw": {},
  "fixed_mask": {},
  "granet": {"frequency": 1, "end_step": 2},
  "pruning": {"frequency": 2, "end_step": 6},
  "rigl": {"frequency": 2, "begin_step": 1},
  "set": {"frequency": 2},
  "snfs": {"frequency": 2},
  "snip": {},
  "static": {"frequency": 2},
  "top_kast": {
    "frequency": 2,
    "backward_sparsity": 0.4,
    "exploration_penalty": 0.1,
  },
}

# Rows whose variables do not keep their number of connections: their class, and
# what makes them so.
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
  "mest": (
    "set",
    {
      "soft_memory": True,
      "frequency": 1,
      "end_step": 2,
      "drop_gradient_weight": 0.1,
    },
  ),
  "rigl_across": ("rigl", {"across_layers": True}),
  "chase": (
    "rigl",
    {"soft_memory": True, "across_layers": True, "end_step": 4},
  ),
}


def sparse_optimizer(method: str, inner: Any, **arguments: Any) -> Any:
  """A sparse optimizer that compiles nothing, unless an engine is given."""
  method, options = OPTIONS.get(method, (method, {}))
  settings = {"mask_engine": "numpy"} | ARGUMENTS[method] | options | arguments
  return sparse_keras.METHODS[method](inner, SPARSITY, **settings)


def cnn() -> keras.Model:
  """A Sequential CNN."""
  return keras.Sequential(
    [
      keras.Input((6, 6, 2)),
      keras.layers.Conv2D(4, 3, activation="relu"),
      keras.layers.DepthwiseConv2D(3),
      keras.layers.BatchNormalization(),
      keras.layers.Flatten(),
      keras.layers.Dense(CLASSES),
    ]
  )


def resnet() -> keras.Model:
  """A functional ResNet with a shared layer and a nested model."""
  image = keras.Input((6, 6, 2))
  stem = keras.layers.Conv2D(4, 3, padding="same")(image)
  shared = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
  x = shared(shared(stem))
  x = keras.layers.add([x, stem])
  inner = keras.Input((6, 6, 4))
  pooled = keras.layers.GlobalAveragePooling2D()(inner)
  head = keras.Model(inner, keras.layers.Dense(8, activation="relu")(pooled))
  return keras.Model(image, keras.layers.Dense(CLASSES)(head(x)))


class Block(keras.layers.Layer):
  """Attention and a multilayer perceptron."""

  def __init__(self, **options: Any) -> None:
    super().__init__(**options)
    self.norm = keras.layers.LayerNormalization()
    self.attention = keras.layers.MultiHeadAttention(2, 3)
    self.up = keras.layers.Dense(8, activation="gelu")
    self.down = keras.layers.Dense(6)

  def call(self, x: Any) -> Any:
    """Adds both to the input."""
    normal = self.norm(x)
    x = x + self.attention(normal, normal)
    return x + self.down(self.up(x))


class Transformer(keras.Model):
  """A subclassed Transformer, which is built by its first call."""

  def __init__(self, **options: Any) -> None:
    super().__init__(**options)
    self.embed = keras.layers.Dense(6)
    self.block = Block()
    self.head = keras.layers.Dense(CLASSES)

  def call(self, x: Any) -> Any:
    """Classifies an image as a sequence of its rows."""
    rows = keras.ops.reshape(x, (-1, 6, 12))
    return self.head(keras.ops.mean(self.block(self.embed(rows)), axis=1))


def mlp() -> keras.Model:
  """Two dense layers, for tests in which the model does not matter."""
  return keras.Sequential(
    [
      keras.Input((6, 6, 2)),
      keras.layers.Flatten(),
      keras.layers.Dense(8, activation="relu"),
      keras.layers.Dense(CLASSES),
    ]
  )


MODELS = {"cnn": cnn, "resnet": resnet, "transformer": Transformer}


def data() -> tuple[np.ndarray, np.ndarray]:
  """Images and classes, the same at every call."""
  random = np.random.RandomState(0)
  images = random.randn(EXAMPLES, 6, 6, 2).astype("float32")
  return images, random.randint(0, CLASSES, EXAMPLES)


def compiled(model: keras.Model, optimizer: Any, **options: Any) -> Any:
  """The model, compiled for classification."""
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(optimizer, loss, **options)
  return model


def fresh(name: str = "mlp", seed: int = 1) -> keras.Model:
  """A model with the same weights at every call."""
  keras.utils.set_random_seed(seed)
  return (MODELS | {"mlp": mlp})[name]()


def sparse_part(optimizer: Any) -> Any:
  """The sparse optimizer, from inside a loss scaling one."""
  if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
    return optimizer.inner_optimizer
  return optimizer


def check_promises(model: keras.Model, slots: bool = True) -> None:
  """Inactive weights are zero, and their slots as at the start.

  Args:
    model: compiled with a sparse optimizer that is built.
    slots: whether to check the slots.
  """
  optimizer = sparse_part(model.optimizer)
  weights = {v.path: v.numpy() for v in model.trainable_variables}
  assert optimizer.masks
  for kernel in optimizer._kernels:
    mask = optimizer.masks[kernel.path].numpy()
    assert mask.dtype == bool
    assert np.all(weights[kernel.path][~mask] == 0), kernel.path
    assert np.all(np.isfinite(weights[kernel.path]))
    if slots:
      check_slots(optimizer, weights[kernel.path], mask, kernel)


def check_slots(
  optimizer: Any, weights: np.ndarray, mask: np.ndarray, kernel: Any
) -> None:
  """Finds the slots by their names, not as the optimizer does."""
  start = f"{kernel.path.replace('/', '_')}_"
  inner = optimizer.inner_optimizer
  found = [v for v in inner.variables if v.name.startswith(start)]
  for slot in found:
    value = slot.numpy()
    if value.shape != mask.shape:
      continue
    is_sum = slot.name == f"{start}accumulator"
    initial = np.float32(0.1 if is_sum else 0.0)
    assert np.all(value[~mask] == initial), slot.name


def counts(model: keras.Model) -> list[int]:
  """The number of active connections of each mask."""
  masks = sparse_part(model.optimizer).masks
  return [int(mask.numpy().sum()) for mask in masks.values()]


def state(model: keras.Model) -> list[np.ndarray]:
  """All weights of the model and all variables of its optimizer."""
  return [v.numpy() for v in [*model.weights, *model.optimizer.variables]]


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
  """Bit by bit."""
  assert len(one) == len(other)
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a, b)


def two_kernels() -> list[keras.Variable]:
  """Kernels of a made-up layer each, and constant gradients."""
  random = np.random.RandomState(2)
  kernels = [
    keras.Variable(random.randn(6, 8).astype("float32"), name="kernel")
    for _ in range(2)
  ]
  for number, kernel in enumerate(kernels):
    kernel._path = f"layer{number}/kernel"
  return kernels


def gradients(step: int) -> list[tf.Tensor]:
  """Gradients of both kernels, which depend on the step."""
  random = np.random.RandomState(10 + step)
  return [tf.constant(random.randn(6, 8), tf.float32) for _ in range(2)]
