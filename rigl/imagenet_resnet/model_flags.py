# SPDX-License-Identifier: Apache-2.0
"""The flags of the ImageNet script that select the model.

Names and defaults are those of the published script.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rigl import layers
from rigl.config.method_flags import MethodFlags
from rigl.config.settings import Settings, override, setting
from rigl.counting.architectures import tables
from rigl.imagenet_resnet.models import factory, model_settings
from rigl.imagenet_resnet.models.image_model import ImageModel

# The training methods of the published script, and two that came later.
IMAGENET_METHODS = (
  "scratch",
  "baseline",
  "snip",
  "dnw",
  "set",
  "momentum",
  "rigl",
  "static",
  "granet",
  "top_kast",
)
# Flags of `create_model`'s arguments that have other names.
_FLAG_NAMES = {
  "architecture": "model_architecture",
  "depth": "resnet_depth",
  "num_classes": "num_label_classes",
}


@dataclasses.dataclass(frozen=True)
class ModelFlags(Settings):
  """Flags that select the model of a checkpoint; the help texts explain them.

  Raises:
    ValueError: if a value is not one of its flag's.
  """

  model_architecture: str = setting(
    "resnet",
    "Architecture of the network.",
    group="model",
    choices=factory.ARCHITECTURES,
  )
  resnet_depth: int = setting(
    50,
    f"Layers of a ResNet: {', '.join(map(str, tables.RESNETS))}.",
    group="model",
  )
  width: float = setting(
    -1.0,
    "Factor of the number of channels; 1 if it is not positive.",
    group="model",
  )
  expansion_factor: float = setting(
    6.0,
    "MobileNet-v2: expansion factor of its blocks.",
    group="model",
    minimum=1e-6,
  )
  first_layer_sparsity: float = setting(
    0.0,
    "Sparsity of the first layer; 0: dense, without a mask; -1: same as "
    "the others.",
    group="model",
  )
  last_layer_sparsity: float = setting(
    -1.0,
    "Sparsity of the last layer; 0: dense, without a mask; -1: same as "
    "the others.",
    group="model",
  )
  num_label_classes: int = setting(
    1000, "Number of classes.", group="model", minimum=1
  )
  training_method: str = override(
    MethodFlags,
    "training_method",
    "scratch",
    help="Sparse training method; baseline is dense, and its checkpoints may "
    "be without masks.",
    choices=IMAGENET_METHODS,
  )
  data_format: str = setting(
    "channels_last",
    "Order of the dimensions that the network computes with.",
    group="model",
    choices=tuple(model_settings.DATA_FORMATS),
  )
  precision: str = setting(
    "float32",
    "Floating-point type that the network computes in.",
    group="model",
    choices=tuple(layers.PRECISIONS),
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if (
      self.model_architecture == "resnet"
      and self.resnet_depth not in tables.RESNETS
    ):
      raise ValueError(
        f"`resnet_depth` must be one of {[*tables.RESNETS]}, got "
        f"{self.resnet_depth}."
      )
    self.end_layers()  # Checks them.

  def end_layers(self) -> factory.EndLayers:
    """Treatment of the first and the last layer."""
    return factory.end_layers(
      self.model_architecture,
      self.first_layer_sparsity,
      self.last_layer_sparsity,
    )

  def create_model(self, **more: Any) -> ImageModel:
    """Makes the model.

    Args:
      **more: other arguments of `factory.create_model`.

    Raises:
      ValueError: if an argument is outside its range.
    """
    ends = self.end_layers()
    return self.configure(
      factory.create_model,
      _FLAG_NAMES,
      architecture=self.model_architecture,
      depth=self.resnet_depth,
      width=self.width,
      expansion_factor=self.expansion_factor,
      num_classes=self.num_label_classes,
      prune_first_layer=ends.prune_first_layer,
      prune_last_layer=ends.prune_last_layer,
      data_format=self.data_format,
      precision=self.precision,
      **more,
    )
