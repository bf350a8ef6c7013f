# SPDX-License-Identifier: Apache-2.0
"""Plain layers, the building blocks of the models.

Layers hold no masks: a pruned connection is a weight that is zero. The caller
gives each layer the path of its variables, which names them in checkpoints.
Layers compute in the type of their inputs; their variables are float32.
"""

from rigl.layers.batch_norm import BatchNorm
from rigl.layers.convolution import Conv2D, DepthwiseConv2D
from rigl.layers.dense import Dense
from rigl.layers.initializers import (
  Initializer,
  glorot_uniform,
  glorot_uniform_at,
  random_normal,
  sparse,
  variance_scaling,
  vgg_scaling,
)
from rigl.layers.precision import PRECISIONS
from rigl.layers.variables import make_variable

__all__ = [
  "PRECISIONS",
  "BatchNorm",
  "Conv2D",
  "Dense",
  "DepthwiseConv2D",
  "Initializer",
  "glorot_uniform",
  "glorot_uniform_at",
  "make_variable",
  "random_normal",
  "sparse",
  "variance_scaling",
  "vgg_scaling",
]
