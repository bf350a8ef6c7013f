# SPDX-License-Identifier: Apache-2.0
"""Wide residual networks for CIFAR-10 as plain `tf.Module`s.

Pre-activation residual blocks (Zagoruyko & Komodakis, 2016,
https://arxiv.org/abs/1605.07146). Variables have the names of the published
checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import tensorflow as tf

from rigl.configurable import configurable
from rigl.counting import LayerSpec, graph_layers
from rigl.counting.architectures import tables
from rigl.layers import PRECISIONS, BatchNorm, Conv2D, Dense
from rigl.layers.dropout import dropout
from rigl.types import Tensor, Variable

_SCOPE = "resnet_model"
_FIRST, _LAST = "conv_1", "logits"
_COLOURS = 3


@configurable(
  denylist=["depth", "width", "num_classes", "seed", "masked", "precision"]
)
class WideResNet(tf.Module):
  """WRN-depth-width: 3 groups of (depth - 4) / 6 residual blocks.

  Args:
    depth: number of layers, 6n + 4.
    width: multiple of the channels 16, 32 and 64 of the groups, at least 1.
    num_classes: number of logits.
    seed: decides the initial weights.
    prune_first_layer: whether `kernels` has the first convolution.
    prune_last_layer: whether `kernels` has the layer of the logits.
    masked: whether `kernels` has any kernel. It only decides names, as in the
      published graphs: kernels of layers without a mask have the layer's
      scope twice, `resnet_model/conv_1/conv_1/weights`.
    dropout_rate: share of activations that are zeroed between the two
      convolutions of a block in training, in [0, 1).
    precision: `float32` or `bfloat16`, the type it computes in; variables,
      statistics, the last layer and logits are float32 in any case.

  Raises:
    ValueError: if an argument is not as described.
  """

  def __init__(
    self,
    depth: int,
    width: int,
    num_classes: int,
    seed: int,
    prune_first_layer: bool = False,
    prune_last_layer: bool = True,
    masked: bool = True,
    dropout_rate: float = 0.3,
    precision: str = "float32",
  ) -> None:
    super().__init__(name=_SCOPE)
    if precision not in PRECISIONS:
      raise ValueError(
        f"`precision` must be one of {[*PRECISIONS]}, got {precision!r}."
      )
    self._dtype = PRECISIONS[precision]
    _check(depth, width, num_classes, dropout_rate)
    pruned = _Pruned(prune_first_layer, prune_last_layer, masked)
    norms = _norm_paths()
    inputs = tables.WIDE_RESNET_FIRST
    self.first = Conv2D(3, _COLOURS, inputs, pruned.path(_FIRST), seed)
    self.blocks = []
    for group, (channels, strides) in enumerate(tables.WIDE_RESNET, start=2):
      for index in range((depth - 4) // 6):
        block = _Block(
          inputs,
          channels * width,
          strides if index == 0 else 1,
          (group, index),
          seed,
          pruned.path,
          norms,
          dropout_rate,
        )
        self.blocks.append(block)
        inputs = channels * width
    self.norm = BatchNorm(inputs, next(norms), unbiased=False)
    self.last = Dense(inputs, num_classes, pruned.path(_LAST), seed)
    self._is_pruned = pruned

  def __call__(self, images: Tensor, key: Tensor | None = None) -> Tensor:
    """Maps images to logits.

    Args:
      images: float32 [batch, 32, 32, 3], standardised.
      key: int64 [2], decides the dropout of a training step. None:
        evaluation.

    Returns:
      float32 [batch, num_classes].
    """
    keys = [None] * len(self.blocks)
    if key is not None:
      keys = [key + tf.constant([0, i], tf.int64) for i in range(len(keys))]
    features = self.first(tf.cast(images, self._dtype))
    for block, block_key in zip(self.blocks, keys, strict=True):
      features = block(features, block_key)
    features = tf.nn.relu(self.norm(features, key is not None))
    features = tf.cast(features, tf.float32)
    return self.last(tf.reduce_mean(features, [1, 2]))

  @property
  def convolutions_and_last(self) -> list[Conv2D | Dense]:
    """All layers with a kernel, in the order of the published graph."""
    blocks = [layer for block in self.blocks for layer in block.convolutions]
    return [self.first, *blocks, self.last]

  @property
  def kernels(self) -> dict[str, Variable]:
    """The kernels that may be sparse, by layer name."""
    return {
      f"{_SCOPE}/{layer.name}": layer.kernel
      for layer in self.convolutions_and_last
      if self._is_pruned(layer.name)
    }

  @property
  def named_variables(self) -> dict[str, Variable]:
    """All variables by their names in checkpoints."""
    return {v.name.split(":")[0]: v for v in self.variables}

  def layer_specs(self, image_size: int = 32) -> list[LayerSpec]:
    """Finds the layers with a kernel, for `rigl.sparse_utils.get_stats`.

    A batch normalization with its ReLU counts with the convolution before it.
    None follows the convolutions of the shortcuts directly.

    Args:
      image_size: height and width of the images in pixels.

    Returns:
      One spec per layer, in the order of the published graph.

    Raises:
      ValueError: if `image_size` is not positive.
    """
    if image_size < 1:
      raise ValueError(f"`image_size` must be at least 1, got {image_size}.")
    names = {
      layer.kernel.name: f"{_SCOPE}/{layer.name}"
      for layer in self.convolutions_and_last
    }
    shape = [image_size, image_size, _COLOURS]
    return graph_layers.find_layers(self, shape, names=names)


class _Pruned:
  """Which layers may be sparse, and the scopes that follow from it."""

  def __init__(self, first: bool, last: bool, masked: bool) -> None:
    self._first, self._last, self._masked = first, last, masked

  def __call__(self, layer: str) -> bool:
    chosen = {_FIRST: self._first, _LAST: self._last}
    return self._masked and chosen.get(layer, True)

  def path(self, layer: str) -> str:
    """The scope of a layer's variables."""
    scope = f"{_SCOPE}/{layer}"
    return scope if self(layer) else f"{scope}/{layer}"


class _Block(tf.Module):
  """Two 3x3 convolutions of normalised inputs, added to the inputs.

  Where the number of channels changes, a 1x1 convolution of the normalised
  inputs is added instead.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    strides: int,
    place: tuple[int, int],
    seed: int,
    path: Callable[[str], str],
    norms: Iterator[str],
    dropout_rate: float,
  ) -> None:
    group, index = place
    super().__init__(name=f"block_{group}_{index}")
    self.norm1 = BatchNorm(inputs, next(norms), unbiased=False)
    self.skip = None
    if inputs != outputs:
      self.skip = Conv2D(
        1, inputs, outputs, path(f"skip_conv_{group}"), seed, strides, "VALID"
      )
    names = [path(f"conv_{group}_{index}_{i}") for i in (1, 2)]
    self.conv1 = Conv2D(3, inputs, outputs, names[0], seed, strides)
    self.norm2 = BatchNorm(outputs, next(norms), unbiased=False)
    self.conv2 = Conv2D(3, outputs, outputs, names[1], seed)
    self._dropout_rate = dropout_rate

  def __call__(self, inputs: Tensor, key: Tensor | None) -> Tensor:
    training = key is not None
    active = tf.nn.relu(self.norm1(inputs, training))
    if self.skip is not None:
      inputs = self.skip(active)
    features = self.conv1(active)
    features = tf.nn.relu(self.norm2(features, training))
    if training and self._dropout_rate:
      features = dropout(features, self._dropout_rate, key)
    return inputs + self.conv2(features)

  @property
  def convolutions(self) -> list[Conv2D]:
    """In the order of the published graph."""
    skip = [] if self.skip is None else [self.skip]
    return [*skip, self.conv1, self.conv2]


def _norm_paths() -> Iterator[str]:
  """The scopes of the batch normalisations, in the order of creation."""
  yield f"{_SCOPE}/batch_normalization"
  number = 1
  while True:
    yield f"{_SCOPE}/batch_normalization_{number}"
    number += 1


def _check(depth: int, width: int, num_classes: int, rate: float) -> None:
  if depth < 10 or depth % 6 != 4:
    raise ValueError(f"`depth` must be 10, 16, 22, ... (6n + 4), got {depth}.")
  for name, value in (("width", width), ("num_classes", num_classes)):
    if value < 1:
      raise ValueError(f"`{name}` must be at least 1, got {value}.")
  if not 0 <= rate < 1:
    raise ValueError(f"`dropout_rate` must be in [0, 1), got {rate}.")
