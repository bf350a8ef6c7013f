"""Plain layers: the building blocks of the models.

They hold no masks: a pruned connection is a weight that is zero.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import tensorflow as tf

Tensor = Any


class Dense(tf.Module):
  """A fully connected layer, x @ kernel + bias.

  Kernels start Glorot uniform, biases at zero.

  Args:
    inputs: number of inputs.
    outputs: number of outputs.
    name: name of the layer, and of its variables' scope.
    seed: decides the initial kernel, together with the name.
    kernel_name: last part of the kernel's name.
    bias_name: last part of the bias's name.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    name: str,
    seed: int,
    kernel_name: str = "weights",
    bias_name: str = "biases",
  ) -> None:
    super().__init__(name=name)
    path = f"{name}/{kernel_name}"
    self.kernel = make_variable(
      glorot_uniform((inputs, outputs), path, seed), path
    )
    self.bias = make_variable(tf.zeros([outputs]), f"{name}/{bias_name}")

  def __call__(self, inputs: Tensor) -> Tensor:
    """Maps float [batch, inputs] to float [batch, outputs]."""
    return tf.linalg.matmul(inputs, self.kernel) + self.bias


def make_variable(value: Tensor, name: str) -> Any:
  """A trainable variable that sparse optimizers can set on every replica."""
  return tf.Variable(
    value, name=name, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
  )


def glorot_uniform(shape: tuple[int, int], name: str, seed: int) -> Tensor:
  """Uniform in +-sqrt(6 / (inputs + outputs)) (Glorot & Bengio, 2010).

  Args:
    shape: (inputs, outputs).
    name: name of the variable; with the seed it decides the values.
    seed: seed of the run.

  Returns:
    float32 of that shape.
  """
  limit = math.sqrt(6.0 / sum(shape))
  key = [seed & 0x7FFFFFFF, zlib.crc32(name.encode()) & 0x7FFFFFFF]
  return tf.random.stateless_uniform(
    shape, key, -limit, limit, tf.float32, alg="philox"
  )
