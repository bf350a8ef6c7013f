# SPDX-License-Identifier: Apache-2.0
"""The network that the flags of the ImageNet script train or evaluate."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from rigl import sparse_utils
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.sparse_optimizers import registry


def make_model(flags: ImagenetSettings, evaluates: bool = False) -> ImageModel:
  """Makes the network with its initial weights.

  Args:
    flags: the settings.
    evaluates: whether the weights will come from a checkpoint.

  Raises:
    ValueError: if a setting is not as described.
  """
  sparsity: float | Mapping[str, float] = 0.0
  sparse_start = flags.training_method in registry.SPARSE_START
  if flags.init_method == "sparse" and sparse_start and not evaluates:
    sparsity = _sparsities(flags)
  return flags.create_model(
    seed=flags.seed,
    init_method="baseline" if evaluates else flags.init_method,
    init_sparsity=sparsity,
  )


def _sparsities(flags: ImagenetSettings) -> dict[str, float]:
  """The sparsity of every layer, which its shapes decide."""
  with tf.Graph().as_default():  # Nothing is computed.
    # With all arguments of the real model, so that gin's operative
    # configuration records no defaults of this call.
    model = flags.create_model(
      seed=flags.seed, init_method="baseline", init_sparsity=0.0
    )
    kernels = model.kernels
    shapes = {name: tuple(kernel.shape) for name, kernel in kernels.items()}
  return sparse_utils.get_sparsities(
    shapes,
    flags.distribution,
    flags.end_sparsity,
    flags.end_layers().custom_sparsity_map,
    flags.erk_power_scale,
  )
