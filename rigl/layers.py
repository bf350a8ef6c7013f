"""Plain layers: the building blocks of the models.

They hold no masks: a pruned connection is a weight that is zero. A layer is
given the path of its variables, because checkpoints name them by it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Tensor = Any
Variable = Any
# (shape, name, seed) -> float32 of that shape.
Initializer = Callable[[Sequence[int], str, int], Tensor]

_EPSILON = 1e-5


def make_variable(value: Tensor, name: str) -> Variable:
  """A trainable variable that sparse optimizers can set on every replica."""
  return tf.Variable(
    value, name=name, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
  )


def glorot_uniform(shape: Sequence[int], name: str, seed: int) -> Tensor:
  """Uniform in +-sqrt(6 / (inputs + outputs)) (Glorot & Bengio, 2010).

  Args:
    shape: (..., inputs, outputs); what stands before is the window of a
      convolution, which both are multiplied by.
    name: name of the variable; with the seed it decides the values.
    seed: seed of the run.

  Returns:
    float32 of that shape.
  """
  window = math.prod(shape[:-2])
  limit = math.sqrt(6.0 / (window * (shape[-2] + shape[-1])))
  return tf.random.stateless_uniform(
    shape, _key(name, seed), -limit, limit, tf.float32, alg="philox"
  )


def _key(name: str, seed: int) -> list[int]:
  return [seed & 0x7FFFFFFF, zlib.crc32(name.encode()) & 0x7FFFFFFF]


class Dense(tf.Module):
  """A fully connected layer, x @ kernel + bias; biases start at zero.

  Args:
    inputs: number of inputs.
    outputs: number of outputs.
    path: scope of the variables.
    seed: decides the initial kernel, together with its name.
    kernel_name: last part of the kernel's name.
    bias_name: last part of the bias's name.
    initializer: of the kernel.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    path: str,
    seed: int,
    kernel_name: str = "weights",
    bias_name: str = "biases",
    initializer: Initializer = glorot_uniform,
  ) -> None:
    super().__init__(name=path.rsplit("/", 1)[-1])
    kernel = f"{path}/{kernel_name}"
    self.kernel = make_variable(
      initializer((inputs, outputs), kernel, seed), kernel
    )
    self.bias = make_variable(tf.zeros([outputs]), f"{path}/{bias_name}")

  def __call__(self, inputs: Tensor) -> Tensor:
    """Maps float [batch, inputs] to float [batch, outputs]."""
    return tf.linalg.matmul(inputs, self.kernel) + self.bias


class Conv2D(tf.Module):
  """A convolution without a bias, of NHWC images.

  Args:
    size: height and width of the window.
    inputs: number of input channels.
    outputs: number of output channels.
    path: scope of the kernel, `PATH/weights`.
    seed: decides the initial kernel, together with its name.
    strides: step of the window in both directions.
    padding: `SAME` or `VALID`.
    initializer: of the kernel.
  """

  def __init__(
    self,
    size: int,
    inputs: int,
    outputs: int,
    path: str,
    seed: int,
    strides: int = 1,
    padding: str = "SAME",
    initializer: Initializer = glorot_uniform,
  ) -> None:
    super().__init__(name=path.rsplit("/", 1)[-1])
    name = f"{path}/weights"
    self.kernel = make_variable(
      initializer((size, size, inputs, outputs), name, seed), name
    )
    self.strides, self.padding = strides, padding

  def __call__(self, images: Tensor) -> Tensor:
    """Maps float [batch, height, width, inputs] to its outputs."""
    return tf.nn.conv2d(images, self.kernel, self.strides, self.padding)


class BatchNorm(tf.Module):
  """Batch normalisation of NHWC images (Ioffe & Szegedy, 2015).

  In training it uses the batch's own statistics, of this replica, and moves
  the averages that evaluation uses.

  Args:
    channels: number of channels.
    path: scope of the variables `gamma`, `beta`, `moving_mean` and
      `moving_variance`.
    momentum: share of an average that a step keeps, in [0, 1].
    unbiased: whether the moving variance averages n / (n - 1) times the
      variance of the batch, as the published ImageNet models do; their
      CIFAR-10 model averages the variance itself.
    gamma: initial scale.
  """

  def __init__(
    self,
    channels: int,
    path: str,
    momentum: float = 0.9,
    unbiased: bool = True,
    gamma: float = 1.0,
  ) -> None:
    super().__init__(name=path.rsplit("/", 1)[-1])
    self.gamma = make_variable(tf.fill([channels], gamma), f"{path}/gamma")
    self.beta = make_variable(tf.zeros([channels]), f"{path}/beta")
    self.moving_mean = _average(tf.zeros([channels]), f"{path}/moving_mean")
    self.moving_variance = _average(
      tf.ones([channels]), f"{path}/moving_variance"
    )
    self._momentum, self._unbiased = momentum, unbiased

  def __call__(self, images: Tensor, training: bool) -> Tensor:
    """Normalises float [batch, height, width, channels]."""
    averages = {}
    if not training:
      averages = {"mean": self.moving_mean, "variance": self.moving_variance}
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
      images,
      self.gamma,
      self.beta,
      epsilon=_EPSILON,
      is_training=training,
      **averages,
    )
    if training:
      if not self._unbiased:
        # The fused operation returns n / (n - 1) times the variance.
        count = tf.cast(tf.size(images[..., 0]), tf.float32)
        variance *= (count - 1.0) / count
      self._move(self.moving_mean, mean)
      self._move(self.moving_variance, variance)
    return outputs

  def _move(self, average: Variable, value: Tensor) -> None:
    average.assign_sub((average - value) * (1.0 - self._momentum))


def _average(value: Tensor, name: str) -> Variable:
  """A variable that each replica moves by itself."""
  return tf.Variable(
    value,
    name=name,
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.MEAN,
  )
