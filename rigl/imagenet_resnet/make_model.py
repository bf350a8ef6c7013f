"""The network that the flags of the ImageNet script say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from rigl import sparse_utils
from rigl.imagenet_resnet.image_model import ImageModel
from rigl.imagenet_resnet.models import create_model
from rigl.imagenet_resnet.settings import DENSE_STARTS, ImagenetSettings
from rigl.training.settings import configured

_FLAG_NAMES = {
  "architecture": "model_architecture",
  "depth": "resnet_depth",
  "num_classes": "num_label_classes",
}


def make_model(
  flags: ImagenetSettings, typed: frozenset[str], evaluates: bool = False
) -> ImageModel:
  """Makes the network with its initial weights.

  Args:
    flags: the settings.
    typed: names of the flags that the user typed, which win over gin.
    evaluates: whether the weights will come from a checkpoint.

  Raises:
    ValueError: if a setting is not as described.
  """
  sparsity: float | Mapping[str, float] = 0.0
  sparse_start = flags.training_method not in DENSE_STARTS
  if flags.init_method == "sparse" and sparse_start and not evaluates:
    sparsity = _sparsities(flags, typed)
  method = "baseline" if evaluates else flags.init_method
  return _create(flags, typed, init_method=method, init_sparsity=sparsity)


def _create(
  flags: ImagenetSettings, typed: frozenset[str], **initial: Any
) -> ImageModel:
  ends = flags.end_layers()
  return configured(
    create_model,
    typed,
    _FLAG_NAMES,
    architecture=flags.model_architecture,
    depth=flags.resnet_depth,
    width=flags.width,
    expansion_factor=flags.expansion_factor,
    num_classes=flags.num_label_classes,
    prune_first_layer=ends.prune_first_layer,
    prune_last_layer=ends.prune_last_layer,
    data_format=flags.data_format,
    precision=flags.precision,
    seed=flags.seed,
    **initial,
  )


def _sparsities(
  flags: ImagenetSettings, typed: frozenset[str]
) -> dict[str, float]:
  """The sparsity of every layer, which its shapes decide."""
  with tf.Graph().as_default():  # Nothing is computed.
    kernels = _create(flags, typed).kernels
    shapes = {name: tuple(kernel.shape) for name, kernel in kernels.items()}
  return sparse_utils.get_sparsities(
    shapes,
    flags.distribution,
    flags.end_sparsity,
    flags.end_layers().custom_sparsity_map,
    flags.erk_power_scale,
  )
