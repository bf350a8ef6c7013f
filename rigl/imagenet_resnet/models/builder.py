# SPDX-License-Identifier: Apache-2.0
"""Builder of the layers of one ImageNet model, under their published names.

Names are as in the published checkpoints: a layer without a mask has its scope
twice, and batch normalizations are numbered in the order of creation.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from rigl import layers
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.types import Tensor

# 1e-5, raised to what cuDNN takes, as TensorFlow 1's fused operation did on
# every device. At 1e-5 logits of the published MobileNet-v2 differ by 6e-5.
_EPSILON = 1.001e-5

KernelLayer = layers.Conv2D | layers.DepthwiseConv2D | layers.Dense


class BuiltLayer(NamedTuple):
  """A layer with a kernel.

  Attributes:
    name: scope of the layer.
    layer: the layer itself.
    prunable: whether its kernel may be sparsified.
    decays: whether its kernel has weight decay.
  """

  name: str
  layer: KernelLayer
  prunable: bool
  decays: bool


class ConvNorm(tf.Module):
  """Convolution, batch normalization, and optionally a ReLU.

  Args:
    convolution: the convolution.
    norm: the batch normalization of its outputs.
    relu: whether a ReLU follows.
  """

  def __init__(
    self,
    convolution: layers.Conv2D | layers.DepthwiseConv2D,
    norm: layers.BatchNorm,
    relu: bool,
  ) -> None:
    super().__init__(name=convolution.name)
    self.convolution, self.norm, self._relu = convolution, norm, relu

  def __call__(self, images: Tensor, training: bool) -> Tensor:
    """Maps images to images."""
    images = self.norm(self.convolution(images), training)
    return tf.nn.relu(images) if self._relu else images


class Builder:
  """Makes the layers of one model and keeps them in the order of creation.

  Attributes:
    modules: all layers, in the order of creation.
    kernels: the layers with a kernel, in the order of creation.

  Args:
    scope: first part of all names.
    settings: settings of the model.
  """

  def __init__(self, scope: str, settings: ModelSettings) -> None:
    self.scope, self.settings = scope, settings
    self.modules: list[tf.Module] = []
    self.kernels: list[BuiltLayer] = []
    self._num_norms = 0

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
    path: str | None = None,
    initializer: layers.Initializer = layers.variance_scaling,
    kernel_name: str = "weights",
    bias_name: str | None = None,
  ) -> layers.Conv2D:
    """Makes a convolution.

    Args:
      name: scope below the scope of the model.
      size: height and width of the window.
      inputs: number of input channels.
      outputs: number of output channels.
      strides: step of the window.
      prunable: whether the kernel may be sparsified.
      decays: whether the kernel has weight decay.
      path: scope of the variables below the scope of the model. None: `name`,
        twice if the kernel is not prunable.
      initializer: initializer of the kernel in a dense network.
      kernel_name: last part of the kernel's name.
      bias_name: last part of the bias's name. None: there is no bias.
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
      kernel_name=kernel_name,
      bias_name=bias_name,
    )
    self._add(full, layer, prunable, decays)
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
    prunable: bool = True,
    path: str | None = None,
    kernel_name: str = "weights",
  ) -> ConvNorm:
    """Makes a convolution with batch normalization.

    Args:
      name: scope below the scope of the model.
      size: height and width of the window.
      inputs: number of input channels.
      outputs: number of output channels.
      strides: step of the window.
      relu: whether a ReLU follows.
      gamma: initial scale of the normalization.
      prunable: whether the kernel may be sparsified.
      path: scope of the kernel below the scope of the model. None: `name`,
        twice if the kernel is not prunable.
      kernel_name: last part of the kernel's name.
    """
    layer = self.conv(
      name,
      size,
      inputs,
      outputs,
      strides,
      prunable=prunable,
      path=path,
      kernel_name=kernel_name,
    )
    return ConvNorm(layer, self._batch_norm(outputs, gamma), relu)

  def depthwise_norm(
    self, name: str, size: int, channels: int, strides: int
  ) -> ConvNorm:
    """Makes a depthwise convolution with batch normalization and ReLU.

    Its kernel is never sparsified and has no weight decay.

    Args:
      name: scope below the scope of the model.
      size: height and width of the window.
      channels: number of input and output channels.
      strides: step of the window.
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
    self._add(full, layer, prunable=False, decays=False)
    return ConvNorm(layer, self._batch_norm(channels), relu=True)

  def dense(
    self,
    name: str,
    inputs: int,
    path: str,
    initializer: layers.Initializer,
    kernel_name: str = "weights",
    bias_name: str = "biases",
  ) -> layers.Dense:
    """Makes the last layer, whose outputs are the logits.

    Args:
      name: scope below the scope of the model.
      inputs: number of inputs.
      path: scope of the variables below the scope of the model.
      initializer: initializer of the kernel in a dense network.
      kernel_name: last part of the kernel's name.
      bias_name: last part of the bias's name.
    """
    settings = self.settings
    full, prunable = f"{self.scope}/{name}", settings.prune_last_layer
    layer = layers.Dense(
      inputs,
      settings.num_classes,
      f"{self.scope}/{path}",
      settings.seed,
      kernel_name,
      bias_name,
      settings.initializer(initializer, full, prunable),
    )
    self._add(full, layer, prunable, decays=True)
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
    self.modules.append(norm)
    return norm

  def _add(
    self, name: str, layer: KernelLayer, prunable: bool, decays: bool
  ) -> None:
    self.modules.append(layer)
    self.kernels.append(BuiltLayer(name, layer, prunable, decays))
