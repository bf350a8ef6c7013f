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
from rigl.tensor_names import MASK, WEIGHTS

# The kinds of the published code; their cost follows from their sizes.
PUBLISHED_KINDS = ("conv2d", "depthwise_conv2d", "dense")
# Dimensions of a kernel by kind; None for any number.
_RANKS = {
  "conv1d": 3,
  "conv2d": 4,
  "conv3d": 5,
  "conv1d_transpose": 3,
  "conv2d_transpose": 4,
  "conv3d_transpose": 5,
  "depthwise_conv1d": 3,
  "depthwise_conv2d": 4,
  "dense": 2,
  "einsum": None,
  "embedding": None,
  "addition": None,
  "multiplication": None,
}
KNOWN_KINDS = tuple(_RANKS)
# Kinds without a product of matrices; their variables are usually dense.
ELEMENTWISE_KINDS = ("addition", "multiplication")

# Suffixes of a kernel's name that are no part of the layer's name.
_SUFFIXES = (
  "/depthwise_kernel",
  "/depthwise_weights",
  "/kernel",
  f"/{WEIGHTS}",
  f"/{MASK}",
)


@dataclass(frozen=True)
class LayerSpec:
  """Shape of a layer and of its input.

  >>> LayerSpec('conv', 'conv2d', (7, 7, 3, 64), 224, (2, 2)).applications
  12544

  Args:
    name: name of the layer or of its kernel.
    kind: one of `KNOWN_KINDS`. `einsum` is any other product of a kernel, as of
      a stack of matrices; `embedding` is a table whose entries are looked up or
      copied; `addition` and `multiplication` combine a variable with the
      activations element by element.
    kernel_shape: [height, width, inputs, outputs], for 1 or 3 dimensions with
      fewer or more sizes; of a depthwise convolution [height, width, channels,
      outputs of each]; of a transposed convolution [height, width, outputs,
      inputs]; of a dense layer [inputs, outputs]; of other kinds any. A grouped
      convolution has the inputs of one group.
    input_size: height and width of the image, or one number for both; it
      includes zeros that another layer added. Only `conv2d` and
      `depthwise_conv2d` have one.
    strides: steps of a convolution's window, two numbers or one for both.
    padding: padding of a convolution, `same` or `valid`.
    activation: activation function of the outputs; one of
      `costs.KNOWN_ACTIVATIONS`, or None.
    use_bias: whether each output has a bias or a batch normalization.
    output_size: height and width of the result, if they do not follow from the
      arguments above. (For a dense layer that is applied to several vectors of
      one example: their number.)
    total_applications: how often the kernel is applied in one example, if it
      does not follow from the arguments above; a fraction if some weights are
      applied more often. A kernel that is used several times has all its uses
      here.
    total_results: number of values that all applications compute together, if
      not `outputs` each.

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
  total_applications: float | None = None
  total_results: float | None = None

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
    self._set("kernel_shape", self._sizes("kernel_shape", _RANKS[self.kind]))
    check_activation(self.activation)
    if self.kind in ("conv2d", "depthwise_conv2d"):
      self._set_image()
    else:
      self._set("input_size", None)
      self._set("strides", (1, 1))
      if self.output_size is not None:
        self._set("output_size", self._sizes("output_size", None))
    for field in ("total_applications", "total_results"):
      value: Any = getattr(self, field)
      is_number = isinstance(value, (int, float)) and 0 <= value < math.inf
      if value is not None and not is_number:
        raise ValueError(
          f"`{field}` must be at least 0, got {value!r} for {self.name!r}."
        )

  def _set_image(self) -> None:
    """Checks the sizes of a convolution's images."""
    if self.input_size is not None or self.total_applications is None:
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
      if self._pair("output_size") == self._convolved():
        self._set("output_size", None)

  def _convolved(self) -> tuple[int, ...] | None:
    """Height and width of the result, or None if the image is too small."""
    if self.input_size is None:
      return None
    sizes = zip(
      self._pair("input_size"),
      self.kernel_shape,
      self._pair("strides"),
      strict=False,
    )
    try:
      return tuple(output_size(*size, self.padding) for size in sizes)
    except ValueError:
      return None

  @property
  def size(self) -> int:
    """Number of weights of the kernel."""
    return math.prod(self.kernel_shape)

  @property
  def outputs(self) -> int:
    """Number of output channels."""
    if self.kind.startswith("depthwise"):
      return self.kernel_shape[-2] * self.kernel_shape[-1]
    if self.kind.endswith("transpose"):
      return self.kernel_shape[-2]
    if self.kind == "einsum" and self.total_results and self.applications:
      return round(self.total_results / self.applications)
    return self.kernel_shape[-1]

  @property
  def applications(self) -> float:
    """Number of times that the kernel is applied in one example."""
    if self.total_applications is not None:
      return self.total_applications
    if self.output_size is not None:
      return math.prod(self._pair("output_size"))
    if self.kind == "multiplication":
      return self.results / self.size
    if self.input_size is None:
      return 0 if self.kind in ("addition", "embedding") else 1
    sizes = zip(
      self._pair("input_size"),
      self.kernel_shape,
      self._pair("strides"),
      strict=False,
    )
    return math.prod(output_size(*size, self.padding) for size in sizes)

  @property
  def results(self) -> float:
    """Number of values that all applications compute in one example."""
    if self.total_results is not None:
      return self.total_results
    if self.kind in ELEMENTWISE_KINDS:
      return self.size
    return self.applications * self.outputs

  @property
  def padded_applications(self) -> float:
    """`applications` as the published code counts them.

    It ignores that images are padded, and treats every convolution as one of
    square images with `same` padding.
    """
    if self.input_size is None:
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

    Raises:
      ValueError: if the width of an `einsum`, whose channels are not known,
        shall change.
    """
    if width == 1:
      return self
    if self.kind == "einsum":
      raise ValueError(
        "`width` must be 1 for layers of kind 'einsum', whose channels are not "
        f"known, got {width} for {self.name!r}."
      )
    *window, n_in, n_out = (1, *self.kernel_shape)
    if self.kind.endswith("transpose"):
      n_in, n_out = n_out, n_in
    has_inputs = self.kind not in (*ELEMENTWISE_KINDS, "embedding")
    if inputs and has_inputs:
      n_in = max(int(n_in * width), 1)
    # A depthwise kernel may also be declared as a convolution to one channel.
    if outputs and not self.kind.startswith("depthwise") and n_out > 1:
      n_out = max(int(n_out * width), 1)
    if self.kind.endswith("transpose"):
      n_in, n_out = n_out, n_in
    result = replace(self, kernel_shape=(*window, n_in, n_out)[1:])
    if self.total_results is None:
      return result
    ratio = result.outputs / self.outputs
    return replace(result, total_results=self.total_results * ratio)

  def without_padding(self) -> LayerSpec:
    """The layer with `same` padding, if its image has zeros for the window.

    The image of a convolution with `valid` padding is taken to have been padded
    for every one of its pixels before.
    """
    if self.input_size is None or self.padding == "same":
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
