# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation."""

from __future__ import annotations

import tensorflow as tf

from rigl.layers.variables import make_average, make_variable
from rigl.types import Tensor, Variable


class BatchNorm(tf.Module):
  """Batch normalisation of images (Ioffe & Szegedy, 2015).

  In training it uses the statistics of this replica's batch and updates the
  moving averages, which evaluation uses.

  Args:
    channels: number of channels.
    path: scope of the variables `gamma`, `beta`, `moving_mean` and
      `moving_variance`.
    momentum: share of an average that a step keeps, in [0, 1].
    unbiased: whether the moving variance averages n / (n - 1) times the
      variance of the batch, as the published ImageNet models do; their
      CIFAR-10 model averages the variance itself.
    gamma: initial scale.
    data_format: `NHWC` or `NCHW`, the order of the dimensions of the images.
    epsilon: added to the variance, positive.
  """

  def __init__(
    self,
    channels: int,
    path: str,
    momentum: float = 0.9,
    unbiased: bool = True,
    gamma: float = 1.0,
    data_format: str = "NHWC",
    epsilon: float = 1e-5,
  ) -> None:
    super().__init__(name=path.rsplit("/", 1)[-1])
    self.gamma = make_variable(tf.fill([channels], gamma), f"{path}/gamma")
    self.beta = make_variable(tf.zeros([channels]), f"{path}/beta")
    self.moving_mean = make_average(tf.zeros([channels]), f"{path}/moving_mean")
    self.moving_variance = make_average(
      tf.ones([channels]), f"{path}/moving_variance"
    )
    self._momentum, self._unbiased = momentum, unbiased
    self._epsilon = epsilon
    self._channels, self._data_format = channels, data_format

  def __call__(self, images: Tensor, training: bool) -> Tensor:
    """Normalises float images; statistics are float32 for any input type.

    Args:
      images: float [batch, height, width, channels], or with the channels
        second for `NCHW`.
      training: whether to use and average the statistics of this batch.

    Returns:
      Tensor of the same shape and dtype.
    """
    averages = {}
    if not training:
      averages = {"mean": self.moving_mean, "variance": self.moving_variance}
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
      images,
      self.gamma,
      self.beta,
      epsilon=self._epsilon,
      data_format=self._data_format,
      is_training=training,
      **averages,
    )
    if training:
      if not self._unbiased:
        # The fused operation returns n / (n - 1) times the variance.
        count = tf.cast(tf.size(images) // self._channels, tf.float32)
        variance *= (count - 1.0) / count
      self._move(self.moving_mean, mean)
      self._move(self.moving_variance, variance)
    return outputs

  def _move(self, average: Variable, value: Tensor) -> None:
    average.assign_sub((average - value) * (1.0 - self._momentum))
