# SPDX-License-Identifier: Apache-2.0
"""The fully connected layer."""

from __future__ import annotations

import tensorflow as tf

from rigl.layers.initializers import Initializer, glorot_uniform
from rigl.layers.variables import make_variable
from rigl.types import Tensor


class Dense(tf.Module):
  """A fully connected layer, x @ kernel + bias; biases start at zero.

  Args:
    inputs: number of inputs.
    outputs: number of outputs.
    path: scope of the variables.
    seed: decides the initial kernel, together with its name.
    kernel_name: last part of the kernel's name.
    bias_name: last part of the bias's name.
    initializer: initializer of the kernel.
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
    kernel = tf.cast(self.kernel, inputs.dtype)
    return tf.linalg.matmul(inputs, kernel) + tf.cast(self.bias, inputs.dtype)
