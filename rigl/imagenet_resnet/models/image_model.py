# SPDX-License-Identifier: Apache-2.0
"""`ImageModel`, the base class of the ImageNet models."""

from __future__ import annotations

import abc

import tensorflow as tf

from rigl.counting import LayerSpec, graph_layers
from rigl.imagenet_resnet.input.preprocessing import IMAGE_SIZE
from rigl.imagenet_resnet.models.builder import Builder
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.types import Tensor, Variable


class ImageModel(tf.Module, abc.ABC):
  """A classifier of images.

  A subclass makes its layers with `self._builder` and writes `_features` and
  `_logits`.

  Args:
    scope: first part of the variables' names.
    settings: settings of the model.
  """

  def __init__(self, scope: str, settings: ModelSettings) -> None:
    super().__init__(name=scope)
    self.settings = settings
    self._builder = Builder(scope, settings)

  def __call__(self, images: Tensor, training: bool = False) -> Tensor:
    """Maps images to logits.

    Args:
      images: float [batch, height, width, 3], normalised.
      training: whether batch normalisation uses, and moves its averages by,
        the statistics of the batch.

    Returns:
      float32 [batch, num_classes].
    """
    images = tf.cast(images, self.settings.dtype)
    if self._channels_first:
      images = tf.transpose(images, [0, 3, 1, 2])
    features = tf.cast(self._features(images, training), tf.float32)
    axes = [2, 3] if self._channels_first else [1, 2]
    return self._logits(tf.reduce_mean(features, axes))

  @abc.abstractmethod
  def _features(self, images: Tensor, training: bool) -> Tensor:
    """The images that are averaged over their pixels."""

  @abc.abstractmethod
  def _logits(self, features: Tensor) -> Tensor:
    """Maps float32 [batch, channels] to [batch, num_classes]."""

  @property
  def _channels_first(self) -> bool:
    return self.settings.layer_format == "NCHW"

  @property
  def kernels(self) -> dict[str, Variable]:
    """The kernels to sparsify by layer name, in the published order."""
    built = self._builder.kernels
    return {b.name: b.layer.kernel for b in built if b.prunable}

  @property
  def decayed_variables(self) -> list[Variable]:
    """The variables with weight decay: kernels, but for depthwise ones."""
    return [b.layer.kernel for b in self._builder.kernels if b.decays]

  def decays(self, variable: Variable) -> bool:
    """Whether a variable has weight decay."""
    return any(variable is other for other in self.decayed_variables)

  @property
  def named_variables(self) -> dict[str, Variable]:
    """All variables by their names in checkpoints, in the published order."""
    return {
      variable.name.split(":")[0]: variable
      for layer in self._builder.modules
      for variable in vars(layer).values()
      if isinstance(variable, tf.Variable)
    }

  def layer_specs(self, image_size: int = IMAGE_SIZE) -> list[LayerSpec]:
    """Finds the layers with a kernel, for `rigl.sparse_utils.get_stats`.

    Args:
      image_size: height and width of the images in pixels, at least 1.

    Returns:
      One spec per layer, in the order of creation: a projection comes before
      the layers beside it.

    Raises:
      ValueError: if the images are too small for the network.
    """
    if image_size < 1:
      raise ValueError(f"`image_size` must be at least 1, got {image_size}.")
    names = {b.layer.kernel.name: b.name for b in self._builder.kernels}
    try:
      specs = graph_layers.find_layers(
        self, [image_size, image_size, 3], names=names
      )
    except ValueError as error:
      raise ValueError(
        f"`image_size` must be large enough for {self.name!r}, got "
        f"{image_size}: {error}"
      ) from error
    return [_as_published(spec, spec is specs[0]) for spec in specs]


def _as_published(spec: LayerSpec, is_first: bool) -> LayerSpec:
  """The spec as the published code counts it.

  All strided convolutions add zeros around their images. `input_size` includes
  these zeros only for the first one and the depthwise ones, as in the Keras
  networks that the published code counted. It makes no difference to the
  correct count.
  """
  if is_first or spec.kind == "depthwise_conv2d":
    return spec
  return spec.without_padding()
