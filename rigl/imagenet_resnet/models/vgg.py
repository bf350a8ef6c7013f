# SPDX-License-Identifier: Apache-2.0
"""VGG (Simonyan & Zisserman, 2014, https://arxiv.org/abs/1409.1556).

As published with RigL: no batch normalisation, no biases, and the mean over
the pixels in place of the first two fully connected layers.
"""

from __future__ import annotations

import tensorflow as tf

from rigl import layers
from rigl.counting.architectures import tables
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.types import Tensor

NAMES = tuple(tables.VGGS)


class Vgg(ImageModel):
  """VGG with 9, 14 or 17 convolutions, the last of which gives the logits.

  The first kernel is masked unless `prune_first_layer` is False.

  Args:
    name: `vgg_a`, `vgg_16` or `vgg_19`.
    settings: settings of the model.

  Raises:
    ValueError: if the name is unknown.
  """

  def __init__(
    self, name: str = "vgg_16", settings: ModelSettings | None = None
  ) -> None:
    if name not in NAMES:
      raise ValueError(f"`name` must be one of {[*NAMES]}, got {name!r}.")
    super().__init__(name, settings or ModelSettings())
    prune_first = self.settings.prune_first_layer in (None, True)
    inputs = 3
    self.groups: list[list[layers.Conv2D]] = []
    for group, size in enumerate(tables.VGGS[name], start=1):
      outputs = int(self.settings.channels(tables.VGG_CHANNELS[group - 1]))
      convolutions = []
      for number in range(1, size + 1):
        path = f"conv{group}/conv{group}_{number}"
        prunable = prune_first or (group, number) != (1, 1)
        convolutions.append(self._conv(path, 3, inputs, outputs, prunable))
        inputs = outputs
      self.groups.append(convolutions)
    self.fc8 = self._make_last(inputs)

  def _conv(
    self, path: str, size: int, inputs: int, outputs: int, prunable: bool
  ) -> layers.Conv2D:
    return self._builder.conv(
      path,
      size,
      inputs,
      outputs,
      prunable=prunable,
      path=path,
      initializer=layers.vgg_scaling,
    )

  def _make_last(self, inputs: int) -> layers.Conv2D:
    """Makes `fc8`; unmasked it has biases and, as published, no decay."""
    masked = self.settings.prune_last_layer
    return self._builder.conv(
      "fc8",
      1,
      inputs,
      self.settings.num_classes,
      prunable=masked,
      decays=masked,
      path="fc8",
      initializer=layers.vgg_scaling,
      bias_name=None if masked else "biases",
    )

  def _features(self, images: Tensor, training: bool) -> Tensor:
    del training  # It makes no difference to this network.
    for number, convolutions in enumerate(self.groups):
      if number:
        images = tf.nn.max_pool2d(
          images, 2, 2, "VALID", data_format=self.settings.layer_format
        )
      for convolution in convolutions:
        images = tf.nn.relu(convolution(images))
    return images

  def _logits(self, features: Tensor) -> Tensor:
    axes = [2, 3] if self._channels_first else [1, 2]
    for axis in axes:
      features = tf.expand_dims(features, axis)
    return tf.squeeze(self.fc8(features), axes)
