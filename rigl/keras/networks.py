# SPDX-License-Identifier: Apache-2.0
"""The published networks as ordinary Keras models.

Their layers have the names of the checkpoints of the scripts, so that
`load_checkpoint` and `save_checkpoint` need no map of names.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from rigl.counting.architectures import tables
from rigl.keras.mobilenets import mobilenet_v1, mobilenet_v2
from rigl.keras.network_layers import (
  IMAGENET_EPSILON,
  Norms,
  check_width,
  conv,
  strided,
)
from rigl.keras.vgg import vgg

__all__ = [
  "mnist_mlp",
  "mobilenet_v1",
  "mobilenet_v2",
  "resnet",
  "vgg",
  "wide_resnet",
]

# The scope of the published networks for CIFAR-10 and ImageNet.
_SCOPE = "resnet_model"
_EPSILON = 1e-5


def mnist_mlp(
  units: tuple[int, ...] = (300, 100, 10), num_inputs: int = 784
) -> keras.Model:
  """The fully connected network of the MNIST script, 784-300-100-10.

  Args:
    units: outputs of each layer; a ReLU follows all but the last.
    num_inputs: number of pixels.

  Returns:
    A model that maps pixels, float [batch, num_inputs] in [0, 1], to logits.
  """
  outputs = pixels = keras.Input([num_inputs])
  for number, size in enumerate(units, start=1):
    activation = "relu" if number < len(units) else None
    layer = layers.Dense(size, activation, name=f"layer{number}")
    outputs = layer(outputs)
  return keras.Model(pixels, outputs, name="mnist_mlp")


def wide_resnet(
  depth: int = 22,
  width: int = 2,
  num_classes: int = 10,
  dropout_rate: float = 0.3,
) -> keras.Model:
  """The wide residual network of the CIFAR-10 script.

  Source: Zagoruyko & Komodakis, 2016, https://arxiv.org/abs/1605.07146.

  Args:
    depth: number of layers, 6n + 4.
    width: multiple of the channels 16, 32 and 64, at least 1.
    num_classes: number of logits, at least 1.
    dropout_rate: share of activations that are zeroed between the two
      convolutions of a block in training, in [0, 1).

  Returns:
    A model that maps images, float [batch, 32, 32, 3] standardised one by one
    (`tf.image.per_image_standardization`), to logits.

  Raises:
    ValueError: if an argument is not as described.
  """
  if depth < 10 or depth % 6 != 4:
    raise ValueError(f"`depth` must be 10, 16, 22, ... (6n + 4), got {depth}.")
  if width < 1:
    raise ValueError(f"`width` must be at least 1, got {width}.")
  norm = Norms(_EPSILON)
  images = keras.Input([32, 32, 3])
  features = conv(tables.WIDE_RESNET_FIRST, 3, 1, "conv_1")(images)
  for group, (channels, first_stride) in enumerate(tables.WIDE_RESNET, start=2):
    for index in range((depth - 4) // 6):
      strides = first_stride if index == 0 else 1
      active = layers.ReLU()(norm()(features))
      outputs = channels * width
      if features.shape[-1] != outputs:
        skip = conv(outputs, 1, strides, f"skip_conv_{group}")
        features = skip(active)
      name = f"conv_{group}_{index}"
      inner = conv(outputs, 3, strides, f"{name}_1")(active)
      inner = layers.ReLU()(norm()(inner))
      inner = layers.Dropout(dropout_rate)(inner)
      inner = conv(outputs, 3, 1, f"{name}_2")(inner)
      features = layers.Add()([features, inner])
  features = layers.ReLU()(norm()(features))
  features = layers.GlobalAveragePooling2D()(features)
  logits = layers.Dense(num_classes, name="logits")(features)
  return keras.Model(images, logits, name=_SCOPE)


def resnet(
  depth: int = 50,
  num_classes: int = 1000,
  width: float = 1.0,
  image_size: int | None = 224,
) -> keras.Model:
  """The residual network of the ImageNet script.

  Source: He et al., 2015, https://arxiv.org/abs/1512.03385, with the stride
  of a bottleneck on its 3x3 convolution. The batch normalizations average the
  variance of a batch as Keras does it, without the factor n / (n - 1).

  Args:
    depth: number of layers: 18, 34, 50, 101, 152 or 200.
    num_classes: number of logits, at least 1.
    width: multiple of the numbers of channels, positive.
    image_size: height and width of the images. None: any.

  Returns:
    A model that maps images, float [batch, height, width, 3] normalised by the
    mean and standard deviation of ImageNet, to logits.

  Raises:
    ValueError: if `depth` or `width` is not as described.
  """
  if depth not in tables.RESNETS:
    raise ValueError(
      f"`depth` must be one of {[*tables.RESNETS]}, got {depth}."
    )
  check_width(width)
  norm = Norms(IMAGENET_EPSILON)
  images = keras.Input([image_size, image_size, 3])
  features = strided(int(64 * width), 7, 2, "initial_conv", images)
  features = layers.ReLU()(norm()(features))
  features = layers.MaxPooling2D(3, 2, padding="same")(features)
  for group, size in enumerate(tables.RESNETS[depth], start=1):
    filters = int(tables.RESNET_CHANNELS[group - 1] * width)
    for index in range(size):
      features = _block(
        features, filters, group, index, depth >= tables.FIRST_BOTTLENECK, norm
      )
  features = layers.GlobalAveragePooling2D()(features)
  logits = layers.Dense(
    num_classes,
    kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
    name="final_dense",
  )(features)
  return keras.Model(images, logits, name=_SCOPE)


def _block(
  inputs: keras.KerasTensor,
  filters: int,
  group: int,
  index: int,
  is_bottleneck: bool,
  norm: Callable[..., keras.Layer],
) -> keras.KerasTensor:
  """Two or three convolutions, and the shortcut that is added to them."""
  kind = "bottleneck" if is_bottleneck else "residual"
  ending = f"block_group{group}_{index}_1"
  if index == 0:
    ending = f"block_group_projection_block_group{group}"
  strides = 2 if index == 0 and group > 1 else 1
  convolutions = [(3, filters, strides), (3, filters, 1)]
  if is_bottleneck:
    convolutions = [
      (1, filters, 1),
      (3, filters, strides),
      (1, 4 * filters, 1),
    ]
  shortcut = inputs
  if index == 0:
    name = f"{kind}_projection_{ending}"
    shortcut = norm()(strided(convolutions[-1][1], 1, strides, name, inputs))
  features = inputs
  for number, (size, outputs, step) in enumerate(convolutions, start=1):
    name = f"{kind}_{number}_{ending}"
    features = strided(outputs, size, step, name, features)
    if number < len(convolutions):
      features = layers.ReLU()(norm()(features))
    else:  # A block starts as its shortcut.
      features = norm(gamma_initializer="zeros")(features)
  return layers.ReLU()(layers.Add()([features, shortcut]))
