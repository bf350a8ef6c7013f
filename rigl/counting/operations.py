"""Operations of a network, each with its cost for one example.

The rules are those of `rigl.counting.costs`; what layers a network has is said
elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rigl.counting.costs import (
  Count,
  activation_cost,
  kernel_cost,
  output_size,
)


@dataclass(frozen=True)
class _Convolution:
  """Arguments of a convolution.

  Args:
    input_size: (height, width) of the image.
    kernel_shape: see the class.
    strides: (vertical, horizontal).
    padding: `same` or `valid`.
    use_bias: whether there is a bias for each output channel.
    activation: one of `KNOWN_ACTIVATIONS`, or None.
  """

  input_size: Sequence[int]
  kernel_shape: Sequence[int]
  strides: Sequence[int] = (1, 1)
  padding: str = "same"
  use_bias: bool = True
  activation: str | None = None

  @property
  def outputs(self) -> int:
    """Number of output channels."""
    return self.kernel_shape[3]

  @property
  def positions(self) -> int:
    """Number of pixels of an output channel."""
    sizes = zip(self.input_size, self.kernel_shape, self.strides, strict=False)
    return math.prod(output_size(*size, self.padding) for size in sizes)

  def count(self, n_zeros: float = 0, param_bits: int = 32) -> Count:
    """Cost with `n_zeros` pruned weights; see `kernel_cost`."""
    return kernel_cost(
      math.prod(self.kernel_shape),
      self.outputs,
      self.positions,
      n_zeros,
      param_bits,
      self.use_bias,
      self.activation,
    )


class Conv2D(_Convolution):
  """A convolution; `kernel_shape` is [height, width, inputs, outputs].

  >>> Conv2D((8, 8), (3, 3, 16, 32), (2, 2), use_bias=False).count().flops
  146944
  """


class DepthWiseConv2D(_Convolution):
  """A convolution channel by channel.

  `kernel_shape` is [height, width, channels, outputs of each channel].
  """

  @property
  def outputs(self) -> int:
    """Number of output channels."""
    return self.kernel_shape[2] * self.kernel_shape[3]


@dataclass(frozen=True)
class FullyConnected:
  """A matrix and a bias.

  Args:
    kernel_shape: [inputs, outputs].
    use_bias: whether there is a bias for each output.
    activation: one of `KNOWN_ACTIVATIONS`, or None.
    positions: how many vectors of one example it is applied to.
  """

  kernel_shape: Sequence[int]
  use_bias: bool = True
  activation: str | None = None
  positions: int = 1

  def count(self, n_zeros: float = 0, param_bits: int = 32) -> Count:
    """Cost with `n_zeros` pruned weights; see `kernel_cost`."""
    return kernel_cost(
      math.prod(self.kernel_shape),
      self.kernel_shape[1],
      self.positions,
      n_zeros,
      param_bits,
      self.use_bias,
      self.activation,
    )


@dataclass(frozen=True)
class _Elementwise:
  """Arguments of an operation on an image.

  Args:
    input_size: (height, width) of the image.
    channels: number of its channels.
  """

  input_size: Sequence[int]
  channels: int

  @property
  def _elements(self) -> int:
    return math.prod(self.input_size) * self.channels


class GlobalAvg(_Elementwise):
  """The mean of each channel: additions, and one multiplication by 1/n."""

  def count(self) -> Count:
    """Cost for one example."""
    return Count(self.channels, self._elements - self.channels)


@dataclass(frozen=True)
class Add(_Elementwise):
  """The sum of two images, as at the end of a residual block.

  Args:
    input_size: (height, width) of the images.
    channels: number of their channels.
    activation: of the sum; one of `KNOWN_ACTIVATIONS`, or None.
  """

  activation: str | None = None

  def count(self) -> Count:
    """Cost for one example."""
    sums = Count(0, self._elements)
    return sums.plus(activation_cost(self.activation, self._elements))


class Scale(_Elementwise):
  """An image times one number for each channel (squeeze and excite)."""

  def count(self) -> Count:
    """Cost for one example."""
    return Count(self._elements, 0)


@dataclass(frozen=True)
class Activation(_Elementwise):
  """An activation function that no other operation holds.

  Args:
    input_size: (height, width) of the image.
    channels: number of its channels.
    activation: one of `KNOWN_ACTIVATIONS`.
  """

  activation: str = "relu"

  def count(self) -> Count:
    """Cost for one example."""
    return activation_cost(self.activation, self._elements)
