# SPDX-License-Identifier: Apache-2.0
"""MNIST network, 784-300-100-10 by default, and its loss and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from rigl.configurable import configurable
from rigl.counting import LayerSpec, graph_layers
from rigl.layers import Dense
from rigl.mnist.mnist_data import NUM_CLASSES
from rigl.mnist.mnist_layers import Layer
from rigl.sparse import SparseDense
from rigl.types import Batch, Tensor, Variable

# {layer name: (inputs, outputs)} -> the layers that are no `Dense`, by name.
SparseLayers = Callable[[Mapping[str, tuple[int, int]]], Mapping[str, Layer]]


@configurable(denylist=["num_inputs", "seed", "masked", "sparse_layers"])
class MnistFc(tf.Module):
  """Fully connected layers with ReLU between them.

  Args:
    num_inputs: number of pixels.
    seed: decides the initial weights.
    masked: whether the variables have the names of the published masked
      layers, `layer1/weights`, or those of its dense ones, `layer1/kernel`.
    units: outputs of each layer; the last one has at least one per class.
    sparse_layers: makes the layers that store only their active connections.
      None: there are none.

  Raises:
    ValueError: if `units` is not as described.
  """

  def __init__(
    self,
    num_inputs: int,
    seed: int,
    masked: bool = True,
    units: tuple[int, ...] = (300, 100, 10),
    sparse_layers: SparseLayers | None = None,
  ) -> None:
    super().__init__()
    if not units or any(size < 1 for size in units):
      raise ValueError(f"`units` must be positive numbers, got {units}.")
    if units[-1] < NUM_CLASSES:
      raise ValueError(f"`units` must end with {NUM_CLASSES}, got {units}.")
    names = ("weights", "biases") if masked else ("kernel", "bias")
    self._num_inputs = num_inputs
    sizes = [num_inputs, *units]
    shapes = {
      f"layer{i + 1}": shape
      for i, shape in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
    }
    sparse = sparse_layers(shapes) if sparse_layers is not None else {}
    self.layers: list[Layer] = [
      sparse.get(name) or Dense(*shape, name, seed, *names)
      for name, shape in shapes.items()
    ]

  def __call__(self, pixels: Tensor) -> Tensor:
    """Maps float [batch, num_inputs] in [0, 1] to logits [batch, classes]."""
    x, features_first = pixels, False
    for i, layer in enumerate(self.layers):
      # The order of the axes in which the layer computes.
      wanted = isinstance(layer, SparseDense)
      x = tf.transpose(x) if wanted != features_first else x
      features_first = wanted
      x = tf.nn.relu(x) if i > 0 else x
      x = (
        layer.features_first(x) if isinstance(layer, SparseDense) else layer(x)
      )
    return tf.transpose(x) if features_first else x

  @property
  def kernels(self) -> dict[str, Any]:
    """The kernels by layer name; layers of `rigl.sparse` stand for theirs."""
    return {
      layer.name: layer.kernel if isinstance(layer, Dense) else layer
      for layer in self.layers
    }

  @property
  def named_variables(self) -> dict[str, Variable]:
    """All variables by their names in checkpoints."""
    return {v.name.split(":")[0]: v for v in self.variables}

  def layer_specs(self) -> list[LayerSpec]:
    """The layers, for `rigl.sparse_utils.get_stats`."""
    if all(isinstance(layer, Dense) for layer in self.layers):
      return graph_layers.find_layers(self, [self._num_inputs])
    return [
      LayerSpec(
        name,
        "dense",
        tuple(kernel.shape),
        activation=None if name == self.layers[-1].name else "relu",
      )
      for name, kernel in self.kernels.items()
    ]


class MnistTask:
  """Classification of digits: the loss and the accuracy of a network.

  Attributes:
    model: the argument.

  Args:
    model: maps pixels to logits.
  """

  metric_names = eval_metric_names = ("loss", "accuracy")
  headline_metrics = ("accuracy",)

  def __init__(self, model: MnistFc) -> None:
    self.model = model
    self._variables = model.trainable_variables

  @property
  def trainable_variables(self) -> tuple[Variable, ...]:
    """The variables to train."""
    return self._variables

  def metrics(
    self, batch: Batch, iteration: Tensor | None = None
  ) -> dict[str, Tensor]:
    """Cross-entropy (`loss`) and hits (`accuracy`) of every example.

    Args:
      batch: `images`, uint8 [batch, pixels], and `labels`, int32 [batch].
      iteration: makes no difference to this network.

    Returns:
      float32 [batch] each.
    """
    del iteration
    labels = batch["labels"]
    logits = self.model(tf.cast(batch["images"], tf.float32) / 255.0)
    hits = tf.equal(tf.argmax(logits, 1, tf.int32), labels)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return {"loss": loss, "accuracy": tf.cast(hits, tf.float32)}
