# SPDX-License-Identifier: Apache-2.0
"""Factory of ImageNet models.

At width 1, with 1000 classes and images of 224 x 224 pixels:

| model        | weights of kernels | multiplications and additions |
| ------------ | ------------------ | ----------------------------- |
| ResNet-18    |         11,683,008 |                        3.6e9  |
| ResNet-34    |         21,783,744 |                        7.3e9  |
| ResNet-50    |         25,502,912 |                        8.2e9  |
| ResNet-101   |         44,442,816 |                       15.7e9  |
| ResNet-152   |         60,040,384 |                       23.1e9  |
| ResNet-200   |         64,496,832 |                       30.1e9  |
| MobileNet-v1 |          4,209,088 |                       1.14e9  |
| MobileNet-v2 |          3,469,760 |                        0.6e9  |
| VGG-A        |          9,729,728 |                       15.0e9  |
| VGG-16       |         15,222,464 |                       30.7e9  |
| VGG-19       |         20,530,880 |                       39.0e9  |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rigl.configurable import configurable
from rigl.imagenet_resnet.models import vgg
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.imagenet_resnet.models.mobilenet import MobileNetV1, MobileNetV2
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.imagenet_resnet.models.resnet import ResNet
from rigl.imagenet_resnet.models.vgg import Vgg

# {name: (depth, expansion factor, settings) -> model}.
_MODELS: dict[str, Callable[[int, float, ModelSettings], ImageModel]] = {
  "resnet": lambda depth, _, settings: ResNet(depth, settings),
  "mobilenet_v1": lambda _, __, settings: MobileNetV1(settings),
  "mobilenet_v2": lambda _, factor, settings: MobileNetV2(factor, settings),
}
ARCHITECTURES = (*_MODELS, *vgg.NAMES)


@configurable()
def create_model(
  architecture: str = "resnet",
  depth: int = 50,
  width: float = 1.0,
  expansion_factor: float = 6.0,
  num_classes: int = 1000,
  prune_first_layer: bool | None = None,
  prune_last_layer: bool = True,
  init_method: str = "baseline",
  init_sparsity: float | Mapping[str, float] = 0.0,
  data_format: str = "channels_last",
  precision: str = "float32",
  seed: int = 0,
) -> ImageModel:
  """Makes an ImageNet model.

  Args:
    architecture: one of `ARCHITECTURES`.
    depth: number of layers of a ResNet; other models ignore it.
    width: factor of the number of channels; 1 if it is not positive.
    expansion_factor: expansion of the blocks of MobileNet-v2; other models
      ignore it.
    num_classes: number of logits.
    prune_first_layer: whether the first kernel may be sparsified. None: as in
      the published graphs, where only that of VGG may.
    prune_last_layer: whether the last kernel may be sparsified.
    init_method: how kernels start that may be sparsified. `baseline`: as in a
      dense network; `sparse`: scaled for the inputs that stay active.
    init_sparsity: share of zeros that `sparse` scales for, one for all layers
      or by layer name.
    data_format: `channels_last` or `channels_first`, the order in which the
      model computes; it takes images with the channels last in any case.
    precision: `float32` or `bfloat16`, the type in which the model computes.
    seed: decides the initial weights.

  Returns:
    The model: normalised images in, logits out.

  Raises:
    ValueError: if a name is unknown or a setting is not as described.
  """
  _check(architecture)
  settings = ModelSettings(
    num_classes=num_classes,
    width=width,
    prune_first_layer=prune_first_layer,
    prune_last_layer=prune_last_layer,
    init_method=init_method,
    init_sparsity=init_sparsity,
    data_format=data_format,
    precision=precision,
    seed=seed,
  )
  if architecture in vgg.NAMES:
    return Vgg(architecture, settings)
  return _MODELS[architecture](depth, expansion_factor, settings)


class EndLayers(NamedTuple):
  """Treatment of the first and the last layer.

  Attributes:
    prune_first_layer: whether the first kernel may be sparsified.
    prune_last_layer: whether the last kernel may be sparsified.
    custom_sparsity_map: {layer name: sparsity} of the layers with a sparsity
      of their own.
  """

  prune_first_layer: bool
  prune_last_layer: bool
  custom_sparsity_map: dict[str, float]


def end_layers(
  architecture: str, first_layer_sparsity: float, last_layer_sparsity: float
) -> EndLayers:
  """Reads the two flags of the sparsity of the first and the last layer.

  A MobileNet's first layer stays dense unless it gets a sparsity of its own,
  and a VGG's is masked as the others even for 0: as in the published graphs,
  whose checkpoints would not fit otherwise.

  Args:
    architecture: one of `ARCHITECTURES`.
    first_layer_sparsity: 0: the layer stays dense and is not masked; -1: it is
      treated as the others; in (0, 1): its own sparsity.
    last_layer_sparsity: the same for the last layer.

  Returns:
    Arguments of the model and of the distribution of sparsities.

  Raises:
    ValueError: if a value is not as described.
  """
  _check(architecture)
  custom = {}
  flags = {
    "first_layer_sparsity": first_layer_sparsity,
    "last_layer_sparsity": last_layer_sparsity,
  }
  names = _end_names(architecture)
  for (flag, value), name in zip(flags.items(), names, strict=True):
    if value != -1 and not 0 <= value < 1:
      raise ValueError(f"`{flag}` must be -1 or in [0, 1), got {value}.")
    if value > 0:
      custom[name] = value
  prune_first = first_layer_sparsity != 0
  if architecture in vgg.NAMES:
    prune_first = True
  elif architecture != "resnet":
    prune_first = first_layer_sparsity > 0
  return EndLayers(prune_first, last_layer_sparsity != 0, custom)


def _end_names(architecture: str) -> tuple[str, str]:
  """Names of the first and the last layer."""
  if architecture in vgg.NAMES:
    return f"{architecture}/conv1/conv1_1", f"{architecture}/fc8"
  return "resnet_model/initial_conv", "resnet_model/final_dense"


def _check(architecture: str) -> None:
  if architecture not in ARCHITECTURES:
    raise ValueError(
      f"`architecture` must be one of {[*ARCHITECTURES]}, got {architecture!r}."
    )
