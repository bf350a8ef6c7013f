# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker: one training step of an MLP, sparse, masked or dense."""

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# isort: split
import memory
import numpy as np
import protocol
import tensorflow as tf

from rigl import sparse_optimizers
from rigl.sparse import SparseDense

_OPTIMIZER = tf.compat.v1.train.MomentumOptimizer


def step(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Training steps with Nesterov momentum, without mask updates.

  Args:
    settings: the settings of `sparse_training.py`.

  Returns:
    The unit and its information.
  """
  tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
  tf.config.threading.set_inter_op_parallelism_threads(1)
  rng = np.random.default_rng(settings["seed"])
  images = rng.normal(size=(settings["batch"], settings["sizes"][0]))
  labels = rng.integers(settings["sizes"][-1], size=settings["batch"])
  x = tf.constant(images, tf.float32)
  y = tf.constant(labels, tf.int32)
  form, _, xla = settings["form"].partition("_")
  network = _Sparse(settings) if form == "sparse" else _Dense(settings, form)

  @tf.function(jit_compile=xla == "xla", autograph=False)
  def train() -> tf.Tensor:
    with tf.GradientTape() as tape:
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        y, network.logits(x)
      )
      loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, network.variables)
    network.apply(list(zip(gradients, network.variables, strict=True)))
    return loss

  def unit() -> float:
    train()  # After other processes had the caches.
    start = time.perf_counter()
    for _ in range(settings["num_steps"]):
      loss = train()
    float(loss)
    return (time.perf_counter() - start) / settings["num_steps"]

  unit()
  info = {"peak_mib": memory.peak_growth_mib(unit)} if not xla else {}
  return unit, info | {"stored_mib": network.stored_bytes() / 2**20}


class _Sparse:
  """Layers that store their active connections; the last one is dense."""

  def __init__(self, settings: protocol.Settings) -> None:
    sizes, sparsity = settings["sizes"], settings["sparsity"]
    *hidden, last = zip(sizes, sizes[1:], strict=False)
    self._layers = [
      SparseDense(
        *shape,
        sparsity,
        activation=tf.nn.relu,
        name=f"layer{i}",
        threads=settings["threads"],
        input_gradient=i > 0,
      )
      for i, shape in enumerate(hidden)
    ]
    self._logits = _Layer(last, "logits")
    self._optimizer = _rigl()
    self._optimizer.create_masks(self._layers)
    self.variables = [
      v for layer in self._layers for v in layer.trainable_variables
    ] + self._logits.variables

  def logits(self, x: tf.Tensor) -> tf.Tensor:
    x = tf.transpose(x)
    for layer in self._layers:
      x = layer.features_first(x)
    return self._logits(tf.transpose(x))

  def apply(self, pairs: list[tuple[tf.Tensor, tf.Variable]]) -> None:
    self._optimizer.apply_masked_gradients(pairs)

  def stored_bytes(self) -> int:
    """Bytes of weights, positions and slots."""
    positions = [layer.positions for layer in self._layers]
    return _bytes([*self.variables, *positions, *self._optimizer.variables()])


class _Dense:
  """Layers of dense kernels, with masks by RigL's optimizer or without."""

  def __init__(self, settings: protocol.Settings, form: str) -> None:
    sizes = settings["sizes"]
    shapes = zip(sizes, sizes[1:], strict=False)
    self._layers = [
      _Layer(shape, f"layer{i}") for i, shape in enumerate(shapes)
    ]
    self.variables = [v for layer in self._layers for v in layer.variables]
    self._optimizer: Any = _OPTIMIZER(0.01, 0.9, use_nesterov=True)
    self.apply: Callable[..., Any] = self._optimizer.apply_gradients
    if form == "masked":
      self._optimizer = _rigl()
      kernels = [layer.kernel for layer in self._layers[:-1]]
      self._optimizer.sparsify(kernels, "random", settings["sparsity"])
      self.apply = self._optimizer.apply_masked_gradients

  def logits(self, x: tf.Tensor) -> tf.Tensor:
    for layer in self._layers[:-1]:
      x = tf.nn.relu(layer(x))
    return self._layers[-1](x)

  def stored_bytes(self) -> int:
    """Bytes of weights, masks and slots."""
    return _bytes([*self.variables, *self._optimizer.variables()])


class _Layer:
  """A dense layer."""

  def __init__(self, shape: tuple[int, int], name: str) -> None:
    values = tf.random.stateless_normal(shape, (0, 0)) / shape[0] ** 0.5
    self.kernel = tf.Variable(values, name=f"{name}/kernel")
    self._bias = tf.Variable(tf.zeros(shape[1]), name=f"{name}/bias")
    self.variables = [self.kernel, self._bias]

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    return x @ self.kernel + self._bias


def _rigl() -> sparse_optimizers.SparseRigLOptimizer:
  return sparse_optimizers.SparseRigLOptimizer(
    _OPTIMIZER(0.01, 0.9, use_nesterov=True), 0, -1, 100, 0.3
  )


def _bytes(variables: list[tf.Variable]) -> int:
  return sum(v.dtype.size * v.shape.num_elements() for v in variables)


if __name__ == "__main__":
  protocol.main({"step": step}, __doc__)
