"""The flags of the ImageNet script that say which model it is.

Names and defaults are those of the published script.
"""

from __future__ import annotations

import dataclasses

from rigl.counting.architectures import plans
from rigl.imagenet_resnet import model_settings, models
from rigl.imagenet_resnet.image_model import ImageModel
from rigl.methods import METHODS
from rigl.training.settings import check, setting


@dataclasses.dataclass(frozen=True)
class ModelFlags:
  """What a checkpoint's model is; the help texts say what they mean."""

  model_architecture: str = setting(
    "resnet", "Architecture of the model.", choices=models.ARCHITECTURES
  )
  resnet_depth: int = setting(
    50, f"Depth of a ResNet, one of {[*plans.RESNETS]}."
  )
  width: float = setting(
    -1.0, "What numbers of channels are multiplied by; 1 if not positive."
  )
  expansion_factor: float = setting(
    6.0, "Channels inside the blocks of MobileNet-v2, as a multiple."
  )
  first_layer_sparsity: float = setting(
    0.0, "Of the first layer; 0: dense, without mask; -1: as the others."
  )
  last_layer_sparsity: float = setting(
    -1.0, "Of the last layer; 0: dense, without mask; -1: as the others."
  )
  num_label_classes: int = setting(1000, "Number of classes.", low=1)
  training_method: str = setting(
    "scratch",
    "Sparse training method; checkpoints of baseline may be without masks.",
    choices=METHODS,
  )
  data_format: str = setting(
    "channels_last",
    "Order of the dimensions in which the model computes.",
    choices=tuple(model_settings.DATA_FORMATS),
  )
  precision: str = setting(
    "float32",
    "Type that the model computes in.",
    choices=tuple(model_settings.PRECISIONS),
  )

  def __post_init__(self) -> None:
    check(self)
    if (
      self.model_architecture == "resnet"
      and self.resnet_depth not in plans.RESNETS
    ):
      raise ValueError(
        f"`resnet_depth` must be one of {[*plans.RESNETS]}, got "
        f"{self.resnet_depth}."
      )

  def create(self, seed: int = 0) -> ImageModel:
    """Makes the model.

    Args:
      seed: decides the initial weights.

    Raises:
      ValueError: if a sparsity or the expansion is out of its range.
    """
    ends = models.end_layers(
      self.model_architecture,
      self.first_layer_sparsity,
      self.last_layer_sparsity,
    )
    return models.create_model(
      self.model_architecture,
      self.resnet_depth,
      self.width,
      self.expansion_factor,
      num_classes=self.num_label_classes,
      prune_first_layer=ends.prune_first_layer,
      prune_last_layer=ends.prune_last_layer,
      data_format=self.data_format,
      precision=self.precision,
      seed=seed,
    )
