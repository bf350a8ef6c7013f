# SPDX-License-Identifier: Apache-2.0
"""`LayerSpec`: description of a layer with a kernel, for counting.

`module_layers` and `graph_layers` find layers in models; `rules` counts them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rigl.counting.costs import (
  KNOWN_PADDINGS,
  check_activation,
  output_size,
)

KNOWN_KINDS = ("conv2d", "depthwise_conv2d", "dense")

# Suffixes of a kernel's name that are no part of the layer's name.
_SUFFIXES = (
  "/depthwise_kernel",
  "/depthwise_weights",
  "/kernel",
  "/weights",
  "/mask",
)


@dataclass(frozen=True)
class LayerSpec:
  """Shape of a layer and of its input.

  >>> LayerSpec('conv', 'conv2d', (7, 7, 3, 64), 224, (2, 2)).applications
  12544

  Args:
    name: name of the layer or of its kernel.
    kind: `conv2d`, `depthwise_conv2d` or `dense`.
    kernel_shape: [height, width, inputs, outputs]; of a depthwise convolution
      [height, width, channels, outputs of each]; of a dense layer
      [inputs, outputs].
    input_size: height and width of the image, or one number for both; it
      includes zeros that another layer added. Dense layers ignore it.
    strides: steps of a convolution's window, two numbers or one for both.
    padding: padding of a convolution, `same` or `valid`.
    activation: activation function of the outputs; one of
      `costs.KNOWN_ACTIVATIONS`, or None.
    use_bias: whether each output has a bias or a batch normalization.
    output_size: height and width of the result, if they do not follow from the
      arguments above. (For a dense layer that is applied to several vectors of
      one example: their number.)

  Raises:
    ValueError: if an argument is not as described.
  """

  name: str
  kind: str
  kernel_shape: Sequence[int]
  input_size: int | Sequence[int] | None = None
  strides: int | Sequence[int] | None = (1, 1)
  padding: str = "same"
  activation: str | None = "relu"
  use_bias: bool = True
  output_size: int | Sequence[int] | None = None

  def __post_init__(self) -> None:
    if not isinstance(self.name, str):
      raise ValueError(f"`name` must be a string, got {self.name!r}.")
    if not isinstance(self.use_bias, bool):
      raise ValueError(
        f"`use_bias` must be True or False, got {self.use_bias!r} for "
        f"{self.name!r}."
      )
    if self.kind not in KNOWN_KINDS:
      raise ValueError(
        f"`kind` must be in {KNOWN_KINDS}, got {self.kind!r} for {self.name!r}."
      )
    rank = 2 if self.kind == "dense" else 4
    self._set("kernel_shape", self._sizes("kernel_shape", rank))
    check_activation(self.activation)
    if self.kind == "dense":
      self._set("input_size", None)
      self._set("strides", (1, 1))
      if self.output_size is not None:
        self._set("output_size", self._sizes("output_size", None))
      return
    self._set("input_size", self._sizes("input_size", 2))
    if self.strides is None:
      self._set("strides", 1)
    self._set("strides", self._sizes("strides", 2))
    if self.padding not in KNOWN_PADDINGS:
      raise ValueError(
        f"`padding` must be in {KNOWN_PADDINGS}, got {self.padding!r} for "
        f"{self.name!r}."
      )
    if self.output_size is not None:
      self._set("output_size", self._sizes("output_size", 2))

  @property
  def size(self) -> int:
    """Number of weights of the kernel."""
    return math.prod(self.kernel_shape)

  @property
  def outputs(self) -> int:
    """Number of output channels."""
    if self.kind == "depthwise_conv2d":
      return self.kernel_shape[2] * self.kernel_shape[3]
    return self.kernel_shape[-1]

  @property
  def applications(self) -> int:
    """Number of times that the kernel is applied in one example."""
    if self.output_size is not None:
      return math.prod(self._pair("output_size"))
    if self.kind == "dense":
      return 1
    sizes = zip(
      self._pair("input_size"),
      self.kernel_shape,
      self._pair("strides"),
      strict=False,
    )
    return math.prod(output_size(*size, self.padding) for size in sizes)

  @property
  def padded_applications(self) -> int:
    """`applications` as the published code counts them.

    It ignores that images are padded, and treats every convolution as one of
    square images with `same` padding.
    """
    if self.kind == "dense":
      return self.applications
    size, stride = self._pair("input_size")[0], self._pair("strides")[0]
    return output_size(size, 1, stride, "same") ** 2

  def scaled(self, width: float, inputs: bool, outputs: bool) -> LayerSpec:
    """The same layer in a network of another width.

    Args:
      width: factor of the number of channels, which is rounded down, but not
        to 0.
      inputs: whether the inputs (channels, if depthwise) are scaled.
      outputs: whether the outputs are scaled. The outputs of a depthwise
        convolution follow from its channels.
    """
    *window, n_in, n_out = self.kernel_shape
    if inputs:
      n_in = max(int(n_in * width), 1)
    # A depthwise kernel may also be declared as a convolution to one channel.
    if outputs and self.kind != "depthwise_conv2d" and n_out > 1:
      n_out = max(int(n_out * width), 1)
    return replace(self, kernel_shape=(*window, n_in, n_out))

  def without_padding(self) -> LayerSpec:
    """The layer with `same` padding, if its image has zeros for the window.

    The image of a convolution with `valid` padding is taken to have been padded
    for every one of its pixels before.
    """
    if self.kind == "dense" or self.padding == "same":
      return self
    sizes = zip(self._pair("input_size"), self.kernel_shape, strict=False)
    image = tuple(size - window + 1 for size, window in sizes)
    return replace(self, input_size=image, padding="same")

  def is_called(self, name: str) -> bool:
    """Whether a name denotes this layer or its kernel."""
    return layer_name(name) == layer_name(self.name)

  def _pair(self, field: str) -> tuple[int, ...]:
    return getattr(self, field)

  def _set(self, field: str, value: Any) -> None:
    object.__setattr__(self, field, value)

  def _sizes(self, field: str, length: int | None) -> tuple[int, ...]:
    """The field as positive integers, of the given number."""
    value: Any = getattr(self, field)
    numbers = value if isinstance(value, Iterable) else (value,)
    try:
      sizes = tuple(operator.index(number) for number in numbers)
    except TypeError:
      sizes = ()
    if field != "kernel_shape" and length == 2 and len(sizes) == 1:
      sizes *= 2
    wrong_length = length is not None and len(sizes) != length
    if not sizes or wrong_length or min(sizes) < 1:
      count = "" if length is None else f"{length} "
      raise ValueError(
        f"`{field}` must be {count}positive integers, got {value!r} for "
        f"{self.name!r}."
      )
    return sizes


def layer_name(name: str) -> str:
  """Name of the layer of a kernel or mask.

  >>> layer_name('conv1/kernel:0'), layer_name('conv1')
  ('conv1', 'conv1')
  """
  name = name.removesuffix(":0")
  for suffix in _SUFFIXES:
    if name.endswith(suffix):
      return name.removesuffix(suffix)
  return name


def by_layer(
  specs: Sequence[LayerSpec], custom_sparsities: Mapping[str, float]
) -> dict[str, float]:
  """Custom sparsities by layer name.

  Args:
    specs: the layers.
    custom_sparsities: sparsities by the name of a layer or of its kernel.

  Raises:
    ValueError: if no layer has a given name.
  """
  names = {layer_name(spec.name): spec.name for spec in specs}
  unknown = [n for n in custom_sparsities if layer_name(n) not in names]
  if unknown:
    raise ValueError(
      f"`custom_sparsities` must use names out of {sorted(names.values())}, "
      f"got {unknown}."
    )
  return {names[layer_name(n)]: s for n, s in custom_sparsities.items()}
