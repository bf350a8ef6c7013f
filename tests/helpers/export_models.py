# SPDX-License-Identifier: Apache-2.0
"""Small networks of every task as checkpoints, and a sparse Keras model."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np

from rigl.predict.tasks import TASKS
from rigl.training import checkpoints

_MASKED = {"training_method": "rigl"}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
  "mnist": ("mnist", _MASKED),
  "cifar10": ("cifar10", {**_MASKED, "resnet_depth": 10, "resnet_width": 1}),
  "resnet": ("imagenet", {**_MASKED, "resnet_depth": 18, "width": 0.1}),
  "mobilenet_v1": (
    "imagenet",
    {**_MASKED, "model_architecture": "mobilenet_v1", "width": 0.1},
  ),
  "mobilenet_v2": (
    "imagenet",
    {**_MASKED, "model_architecture": "mobilenet_v2", "width": 0.1},
  ),
  "vgg": (
    "imagenet",
    {**_MASKED, "model_architecture": "vgg_a", "width": 0.05},
  ),
}
IMAGE_SIZE = 64


def checkpoint(
  folder: pathlib.Path, name: str, sparsity: float = 0.9, noise: bool = True
) -> tuple[str, str, dict[str, Any]]:
  """Writes a checkpoint as it is published: pruned weights are not zero.

  Args:
    folder: where to.
    name: of `NETWORKS`.
    sparsity: share of zeros of the masks.
    noise: whether pruned weights are not zero.

  Returns:
    The prefix, the task and the flags.
  """
  task, flags = NETWORKS[name]
  network = TASKS[task].network(flags)
  rng = np.random.default_rng(0)
  tensors: dict[str, Any] = {"global_step": np.int64(5)}
  for key, variable in network.variables.items():
    value = variable.numpy()
    if key.endswith(("gamma", "moving_variance")):
      value = rng.uniform(0.8, 1.2, value.shape).astype(np.float32)
    elif key.endswith(("beta", "moving_mean", "biases")):
      value = rng.normal(0, 0.1, value.shape).astype(np.float32)
    tensors[key] = value
    tensors[f"{key}/Momentum"] = value
  for layer, kernel in network.kernels.items():
    mask = (rng.random(kernel.shape) >= sparsity).astype(np.float32)
    tensors[f"{layer}/mask"] = mask
    if not noise:
      key = next(k for k, v in network.variables.items() if v is kernel)
      tensors[key] = tensors[key] * mask
  return checkpoints.save(folder, 5, tensors), task, flags


def keras_model(sparsity: float = 0.9) -> keras.Model:
  """A functional CNN with a fully connected end."""
  image = keras.Input([12, 12, 3], name="image")
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
  x = keras.layers.BatchNormalization()(x)
  x = keras.layers.ReLU()(x)
  x = keras.layers.Flatten()(x)
  x = keras.layers.Dense(64, "relu")(x)
  model = keras.Model(image, keras.layers.Dense(10)(x), name="small")
  return with_zeros(model, sparsity)


def with_zeros(model: keras.Model, sparsity: float) -> keras.Model:
  """The model with random zeros in its kernels."""
  rng = np.random.default_rng(1)
  for variable in model.weights:
    if len(variable.shape) > 1:
      value = np.asarray(variable.numpy())
      variable.assign(value * (rng.random(value.shape) >= sparsity))
  return model


def scaled(model: keras.Model) -> keras.Model:
  """The model with kernels that keep the size of activations.

  With those of its initializers, what depthwise convolutions return vanishes.
  """
  for layer in model.layers:
    if isinstance(layer, keras.layers.DepthwiseConv2D):
      layer.kernel.assign(layer.kernel / np.std(layer.kernel) / 3)
    elif isinstance(layer, keras.layers.Conv2D):
      kernel = np.asarray(layer.kernel)
      energy = np.sum(kernel**2) / kernel.shape[-1]  # Of one output.
      layer.kernel.assign(kernel * np.sqrt(2 / energy))
  return model
