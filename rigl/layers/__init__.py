"""Plain layers: the building blocks of the models.

They hold no masks: a pruned connection is a weight that is zero. A layer is
given the path of its variables, because checkpoints name them by it. It
computes in the type of its inputs; its variables are float32.
"""

from rigl.layers.batch_norm import BatchNorm
from rigl.layers.convolution import Conv2D, DepthwiseConv2D
from rigl.layers.dense import Dense
from rigl.layers.initializers import (
  Initializer,
  glorot_uniform,
  random_normal,
  sparse,
  variance_scaling,
  vgg_scaling,
)
from rigl.layers.variables import make_variable

__all__ = [
  "BatchNorm",
  "Conv2D",
  "Dense",
  "DepthwiseConv2D",
  "Initializer",
  "glorot_uniform",
  "make_variable",
  "random_normal",
  "sparse",
  "variance_scaling",
  "vgg_scaling",
]
