"""Makes the layers of an ImageNet model and remembers what they are.

The published checkpoints decide the names: a layer that is not sparsified has
its scope twice, and batch normalisations are numbered as they are made.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from rigl import layers
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.types import Tensor

# 1e-5, raised to what cuDNN takes, as TensorFlow 1's fused operation did on
# every device. At 1e-5 logits of the published MobileNet-v2 differ by 6e-5.
_EPSILON = 1.001e-5


class LayerRecord(NamedTuple):
  """A layer with a kernel, as the builder made it.

  Attributes:
    name: scope of the layer.
    kind: as of `counting.LayerSpec`.
    layer: the layer.
    prunable: whether its kernel is among those to sparsify.
    decays: whether its kernel has weight decay.
    reduction: how many times smaller than the image its input is; None for
      an input of one pixel.
    relu: whether its outputs, or their sum with other images, go through a
      ReLU.
    bias: whether it has a bias or a batch normalisation.
    padded: whether its input is counted with the zeros around it.
  """

  name: str
  kind: str
  layer: Any
  prunable: bool
  decays: bool
  reduction: int | None
  relu: bool
  bias: bool
  padded: bool = False


class ConvNorm(tf.Module):
  """A convolution, batch normalisation, and a ReLU if wanted.

  Args:
    convolution: the convolution.
    norm: the batch normalisation of its outputs.
    relu: whether a ReLU ends it.
  """

  def __init__(
    self, convolution: Any, norm: layers.BatchNorm, relu: bool
  ) -> None:
    super().__init__(name=convolution.name)
    self.convolution, self.norm, self._relu = convolution, norm, relu

  def __call__(self, images: Tensor, training: bool) -> Tensor:
    """Maps images to images."""
    images = self.norm(self.convolution(images), training)
    return tf.nn.relu(images) if self._relu else images


class Builder:
  """Makes the layers of one model, in the order of their names.

  Args:
    scope: first part of all names.
    settings: settings of the model.
  """

  def __init__(self, scope: str, settings: ModelSettings) -> None:
    self.scope, self.settings = scope, settings
    # All layers, and those with a kernel, in the order of creation.
    self.made: list[tf.Module] = []
    self.records: list[LayerRecord] = []
    self._reduction: int | None = 1
    self._num_norms = 0

  def reduce(self, factor: int) -> None:
    """Notes that the layers to come see images smaller by this factor."""
    if self._reduction is not None:
      self._reduction *= factor

  def average(self) -> None:
    """Notes that the layers to come see one pixel."""
    self._reduction = None

  def conv(
    self,
    name: str,
    size: int,
    inputs: int,
    outputs: int,
    strides: int = 1,
    *,
    prunable: bool = True,
    decays: bool = True,
    relu: bool = True,
    padded: bool = False,
    path: str | None = None,
    initializer: layers.Initializer = layers.variance_scaling,
    **arguments: Any,
  ) -> layers.Conv2D:
    """Makes a convolution.

    Args:
      name: scope below that of the model.
      size: height and width of the window.
      inputs: number of input channels.
      outputs: number of output channels.
      strides: step of the window.
      prunable: whether the kernel is among those to sparsify.
      decays: whether it has weight decay.
      relu: as of `LayerRecord`.
      padded: as of `LayerRecord`.
      path: scope of the variables below that of the model. None: the name,
        twice if the kernel is not prunable.
      initializer: of the kernel in a dense network.
      **arguments: other arguments of `layers.Conv2D`.
    """
    full = f"{self.scope}/{name}"
    path = path or (name if prunable else f"{name}/{name}")
    layer = layers.Conv2D(
      size,
      inputs,
      outputs,
      f"{self.scope}/{path}",
      self.settings.seed,
      strides,
      padding="FIXED",
      initializer=self.settings.initializer(initializer, full, prunable),
      data_format=self.settings.layer_format,
      **arguments,
    )
    biased = arguments.get("bias_name") is not None
    self._record(full, "conv2d", layer, prunable, decays, relu, biased, padded)
    return layer

  def conv_norm(
    self,
    name: str,
    size: int,
    inputs: int,
    outputs: int,
    strides: int = 1,
    *,
    relu: bool = True,
    gamma: float = 1.0,
    branch: bool = False,
    added: bool = False,
    **arguments: Any,
  ) -> ConvNorm:
    """Makes a convolution with batch normalisation.

    Args:
      name: as of `conv`.
      size: as of `conv`.
      inputs: as of `conv`.
      outputs: as of `conv`.
      strides: as of `conv`.
      relu: whether a ReLU ends it.
      gamma: initial scale of the normalisation.
      branch: whether the next layer has the same input as this one.
      added: whether there is a ReLU after an addition of the outputs.
      **arguments: other arguments of `conv`.
    """
    layer = self.conv(
      name, size, inputs, outputs, strides, relu=relu or added, **arguments
    )
    self.records[-1] = self.records[-1]._replace(bias=True)
    if not branch:
      self.reduce(strides)
    return ConvNorm(layer, self._batch_norm(outputs, gamma), relu)

  def depthwise_norm(
    self, name: str, size: int, channels: int, strides: int
  ) -> ConvNorm:
    """Makes a depthwise convolution with batch normalisation and ReLU.

    Its kernel is never sparsified and has no weight decay.
    """
    full = f"{self.scope}/{name}"
    layer = layers.DepthwiseConv2D(
      size,
      channels,
      full,
      self.settings.seed,
      strides,
      padding="FIXED",
      data_format=self.settings.layer_format,
    )
    self._record(
      full,
      "depthwise_conv2d",
      layer,
      prunable=False,
      decays=False,
      relu=True,
      bias=True,
      padded=strides > 1,
    )
    self.reduce(strides)
    return ConvNorm(layer, self._batch_norm(channels), relu=True)

  def dense(
    self,
    name: str,
    inputs: int,
    path: str,
    initializer: layers.Initializer,
    **names: str,
  ) -> layers.Dense:
    """Makes the last layer, whose outputs are the logits.

    Args:
      name: scope below that of the model.
      inputs: number of inputs.
      path: scope of the variables below that of the model.
      initializer: of the kernel in a dense network.
      **names: last parts of the variables' names, as of `layers.Dense`.
    """
    settings = self.settings
    full, prunable = f"{self.scope}/{name}", settings.prune_last_layer
    layer = layers.Dense(
      inputs,
      settings.num_classes,
      f"{self.scope}/{path}",
      settings.seed,
      initializer=settings.initializer(initializer, full, prunable),
      **names,
    )
    self._record(full, "dense", layer, prunable, True, relu=False, bias=True)
    return layer

  def _batch_norm(self, channels: int, gamma: float = 1.0) -> layers.BatchNorm:
    number = f"_{self._num_norms}" if self._num_norms else ""
    self._num_norms += 1
    norm = layers.BatchNorm(
      channels,
      f"{self.scope}/batch_normalization{number}",
      gamma=gamma,
      data_format=self.settings.layer_format,
      epsilon=_EPSILON,
    )
    self.made.append(norm)
    return norm

  def _record(
    self,
    name: str,
    kind: str,
    layer: Any,
    prunable: bool,
    decays: bool,
    relu: bool,
    bias: bool,
    padded: bool = False,
  ) -> None:
    self.made.append(layer)
    self.records.append(
      LayerRecord(
        name, kind, layer, prunable, decays, self._reduction, relu, bias, padded
      )
    )
