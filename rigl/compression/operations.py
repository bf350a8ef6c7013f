# SPDX-License-Identifier: Apache-2.0
"""Operations on channels: which results are constant, which inputs are needed.

Whatever the shape of a tensor, its channels are its last dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Elementwise = Callable[[np.ndarray], np.ndarray]


class Operation:
  """An operation on channels.

  Attributes:
    channels: number of channels of its result.
    joins: whether channel k of the result is that of its inputs, so that all of
      them lose the same channels.
    is_fixed: whether its result must keep all channels.
  """

  channels: int
  joins = False
  is_fixed = False

  def constants(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The channels of the result that are constant.

    Args:
      inputs: for each input its constant channels, as for the result.

    Returns:
      float64 [channels]: the value of a channel at all places of all examples;
      NaN for one that varies.
    """
    return np.full(self.channels, np.nan)

  def needs(
    self, needed: np.ndarray, inputs: Sequence[np.ndarray]
  ) -> list[np.ndarray]:
    """The channels of the inputs that the result needs.

    Args:
      needed: bool [channels], the needed channels of the result.
      inputs: for each input its constant channels.

    Returns:
      bool [channels] for each input.
    """
    return [np.ones(len(constant), bool) for constant in inputs]


@dataclasses.dataclass
class Source(Operation):
  """An input of the network."""

  channels: int


@dataclasses.dataclass
class Opaque(Operation):
  """An operation that is not known: it needs and keeps everything."""

  channels: int
  is_fixed = True


@dataclasses.dataclass
class Product(Operation):
  """A fully connected layer or a convolution.

  Attributes:
    kernel: [..., inputs, outputs], the first dimensions those of a window.
    bias: [outputs].
    is_padded: whether windows at the edges see zeros instead of the inputs.
    activation: what follows, element by element.
  """

  kernel: np.ndarray
  bias: np.ndarray
  is_padded: bool = False
  activation: Elementwise | None = None

  def __post_init__(self) -> None:
    self.channels = self.kernel.shape[-1]
    flat = self.kernel.reshape(-1, *self.kernel.shape[-2:])
    self._is_connected = np.any(flat != 0, axis=0)
    self._sums = flat.sum(axis=0, dtype=np.float64)

  def constants(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """A result is constant if all inputs that it is connected to are."""
    contributed = self.folded(inputs[0])
    varies = np.isnan(contributed)[:, None] & self._is_connected
    sums = self.bias + np.nan_to_num(contributed) @ self._sums
    values = self.activation(sums) if self.activation else sums
    return np.where(varies.any(axis=0), np.nan, values)

  def folded(self, constant: np.ndarray) -> np.ndarray:
    """The constant inputs whose contribution is the same at all places."""
    if self.is_padded:
      return np.where(constant == 0, 0.0, np.nan)
    return constant

  def contribution(self, constant: np.ndarray) -> np.ndarray:
    """What constant inputs add to the results, [outputs].

    Args:
      constant: [inputs], zero where an input counts as it is.
    """
    return constant @ self._sums

  def needs(
    self, needed: np.ndarray, inputs: Sequence[np.ndarray]
  ) -> list[np.ndarray]:
    """The inputs that are connected to a needed result and vary."""
    varies = np.isnan(self.folded(inputs[0]))
    connected = np.any(self._is_connected[:, needed], axis=1)
    return [np.asarray(connected & varies)]


@dataclasses.dataclass
class Depthwise(Operation):
  """A convolution of each channel.

  Attributes:
    kernel: [..., channels], the first dimensions those of a window.
    bias: [channels].
    is_padded: whether windows at the edges see zeros.
    activation: what follows, element by element.
  """

  kernel: np.ndarray
  bias: np.ndarray
  is_padded: bool = False
  activation: Elementwise | None = None
  joins = True

  def __post_init__(self) -> None:
    self.channels = self.kernel.shape[-1]

  def constants(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """A result is constant if its input is, or its kernel is zero."""
    flat = self.kernel.reshape(-1, self.channels)
    constant = np.where(np.any(flat != 0, axis=0), inputs[0], 0.0)
    if self.is_padded:
      constant = np.where(constant == 0, 0.0, np.nan)
    values = constant * flat.sum(axis=0, dtype=np.float64) + self.bias
    return self.activation(values) if self.activation else values

  def needs(
    self, needed: np.ndarray, inputs: Sequence[np.ndarray]
  ) -> list[np.ndarray]:
    """Those of the result."""
    return [needed]


@dataclasses.dataclass
class Map(Operation):
  """A function of each value, which may differ between channels.

  Attributes:
    channels: number of channels.
    function: maps one value per channel to one per channel.
  """

  channels: int
  function: Elementwise
  joins = True

  def constants(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The function of the constants."""
    values = self.function(np.nan_to_num(inputs[0]))
    return np.where(np.isnan(inputs[0]), np.nan, values)

  def needs(
    self, needed: np.ndarray, inputs: Sequence[np.ndarray]
  ) -> list[np.ndarray]:
    """Those of the result."""
    return [needed for _ in inputs]


@dataclasses.dataclass
class Sum(Map):
  """The sum of several tensors."""

  function: Elementwise = dataclasses.field(default=lambda values: values)

  def constants(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of the constants."""
    return np.sum(np.stack(inputs), axis=0)


@dataclasses.dataclass
class Padding(Map):
  """Zeros around images: a constant stays one if it is zero."""

  function: Elementwise = dataclasses.field(default=lambda values: values)

  def constants(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Zeros stay."""
    return np.where(inputs[0] == 0, 0.0, np.nan)


@dataclasses.dataclass
class Flatten(Operation):
  """All places of an image become channels.

  Attributes:
    places: number of places.
    inputs: number of channels of an image.
  """

  places: int
  inputs: int

  def __post_init__(self) -> None:
    self.channels = self.places * self.inputs

  def constants(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The same at all places."""
    return np.tile(inputs[0], self.places)

  def needs(
    self, needed: np.ndarray, inputs: Sequence[np.ndarray]
  ) -> list[np.ndarray]:
    """A channel is needed if it is at any place."""
    return [np.asarray(needed.reshape(self.places, -1).any(axis=0))]
