"""What all ImageNet models share: types, data formats, lists of variables."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf

from rigl.imagenet_resnet.builder import Builder, LayerRecord, LayerSpec
from rigl.imagenet_resnet.model_settings import ModelSettings

Tensor = Any
Variable = Any


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
    records = self._builder.records
    return {r.name: r.layer.kernel for r in records if r.prunable}

  @property
  def decayed_variables(self) -> list[Variable]:
    """The variables with weight decay: kernels, but for depthwise ones."""
    return [r.layer.kernel for r in self._builder.records if r.decays]

  def decays(self, variable: Variable) -> bool:
    """Whether a variable has weight decay."""
    return any(variable is other for other in self.decayed_variables)

  @property
  def named_variables(self) -> dict[str, Variable]:
    """All variables by their names in checkpoints, in the published order."""
    return {
      variable.name.split(":")[0]: variable
      for layer in self._builder.made
      for variable in vars(layer).values()
      if isinstance(variable, tf.Variable)
    }

  def layer_specs(self, image_size: int) -> list[LayerSpec]:
    """The layers with a kernel, for counting operations.

    Args:
      image_size: height and width of the images in pixels.

    Returns:
      One entry a layer, in the order of creation: that of a projection comes
      before the layers beside it.
    """
    return [
      LayerSpec(
        record.name,
        record.kind,
        tuple(record.layer.kernel.shape),
        self._input_size(record, image_size),
        1 if record.kind == "dense" else record.layer.strides,
      )
      for record in self._builder.records
    ]

  def _input_size(self, record: LayerRecord, image_size: int) -> int:
    if record.kind == "dense":
      return record.layer.kernel.shape[0]
    if record.reduction is None:
      return 1
    return self._reduced(image_size, record.reduction)

  def _reduced(self, image_size: int, reduction: int) -> int:
    """Size of an image after layers whose strides have this product."""
    return -(-image_size // reduction)  # Padding rounds it up at each.
