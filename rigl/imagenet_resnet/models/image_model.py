"""What all ImageNet models share: types, data formats, lists of variables."""

from __future__ import annotations

import abc

import tensorflow as tf

from rigl.counting import LayerSpec
from rigl.imagenet_resnet.input.preprocessing import IMAGE_SIZE
from rigl.imagenet_resnet.models.builder import Builder, LayerRecord
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

  def layer_specs(self, image_size: int = IMAGE_SIZE) -> list[LayerSpec]:
    """The layers with a kernel, for `rigl.sparse_utils.get_stats`.

    All strided convolutions pad images by themselves. Of those that do so in
    the Keras networks which the published code counted (the first ones and
    the depthwise ones) `input_size` includes the zeros, as it did there; it
    makes no difference to the correct count.

    Args:
      image_size: height and width of the images in pixels, at least 1.

    Returns:
      One entry a layer, in the order of creation: that of a projection comes
      before the layers beside it.

    Raises:
      ValueError: if the images are too small for the network.
    """
    if image_size < 1:
      raise ValueError(f"`image_size` must be at least 1, got {image_size}.")
    return [self._spec(record, image_size) for record in self._builder.records]

  def _spec(self, record: LayerRecord, image_size: int) -> LayerSpec:
    shape = tuple(record.layer.kernel.shape)
    activation = "relu" if record.relu else None
    if record.kind == "dense":
      return LayerSpec(record.name, "dense", shape, activation=activation)
    size = 1
    if record.reduction is not None:
      size = self._reduced(image_size, record.reduction)
    return LayerSpec(
      record.name,
      record.kind,
      shape,
      size + shape[0] - 1 if record.padded else size,
      record.layer.strides,
      "valid" if record.padded else "same",
      activation,
      record.bias,
    )

  def _reduced(self, image_size: int, reduction: int) -> int:
    """Size of an image after layers whose strides have this product."""
    return -(-image_size // reduction)  # Padding rounds it up at each.
