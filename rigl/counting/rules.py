# SPDX-License-Identifier: Apache-2.0
"""Cost of layers with given sparsities, counted correctly or as published.

`rigl.sparse_utils` distributes sparsities over layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rigl.counting.costs import Count, check_param_bits, kernel_cost
from rigl.counting.specs import (
  ELEMENTWISE_KINDS,
  PUBLISHED_KINDS,
  LayerSpec,
)


@dataclass(frozen=True)
class LayerCount:
  """A layer, its sparsity and its cost for one example.

  Attributes:
    spec: the layer, with the width that was counted.
    sparsity: requested share of zeros, in [0, 1].
    n_zeros: number of pruned weights.
    count: cost of the layer.
  """

  spec: LayerSpec
  sparsity: float
  n_zeros: int
  count: Count


def count_layer(
  spec: LayerSpec, sparsity: float = 0.0, param_bits: int = 32
) -> LayerCount:
  """Counts a layer.

  `floor(sparsity * size)` weights are zero. The spec decides whether outputs
  have a bias and an activation function.

  >>> spec = LayerSpec('fc', 'dense', (10, 5), activation=None)
  >>> count_layer(spec, 0.5).count.flops
  50

  Args:
    spec: the layer.
    sparsity: share of zeros of the layer, in [0, 1].
    param_bits: bits of a weight or bias, at least 1.

  Returns:
    The layer with its cost for one example.

  Raises:
    ValueError: if `sparsity` or `param_bits` is out of its range.
  """
  _check_sparsity(sparsity, spec)
  n_zeros = math.floor(sparsity * spec.size)
  applications, results = spec.applications, spec.results
  if spec.kind in ELEMENTWISE_KINDS:
    results *= 1 - n_zeros / spec.size
    applications = 0
  count = kernel_cost(
    spec.size,
    spec.outputs,
    applications,
    n_zeros,
    param_bits,
    spec.use_bias,
    spec.activation,
    results,
  )
  if spec.kind == "addition":
    count = count.plus(Count(additions=results))
  elif spec.kind == "multiplication":
    count = count.plus(Count(results))
  return LayerCount(spec, sparsity, n_zeros, count)


def count_layer_as_published(
  spec: LayerSpec, sparsity: float = 0.0, param_bits: int = 32
) -> LayerCount:
  """Counts a layer as the published code does.

  The differences to `count_layer`:

  * The size of an image includes the zeros that another layer added around it.
  * A depthwise convolution is a full convolution with one output channel.
  * Every output has a bias and a ReLU.
  * The number of nonzeros may be fractional, and the number of additions turns
    negative for filters with less than one nonzero weight.

  It has no rules for other kinds of layers; these count as `count_layer` does.

  Args:
    spec: the layer; its padding, activation and bias are ignored.
    sparsity: share of zeros of the layer, in [0, 1].
    param_bits: bits of a weight or bias, at least 1.

  Returns:
    The layer with its cost for one example.

  Raises:
    ValueError: if `sparsity` or `param_bits` is out of its range.
  """
  if spec.kind not in PUBLISHED_KINDS:
    return count_layer(spec, sparsity, param_bits)
  _check_sparsity(sparsity, spec)
  check_param_bits(param_bits)
  *inputs, outputs = spec.kernel_shape
  results = spec.padded_applications * outputs
  products = math.prod(inputs) * (1 - sparsity)
  sums = products - 1
  count = Count(
    (products + 1) * results,  # One more for the ReLU,
    (sums + 1) * results,  # and for the bias.
    (spec.size * (1 - sparsity) + outputs) * param_bits,
    spec.size if sparsity > 0 else 0,
  )
  n_zeros = math.floor(sparsity * spec.size)
  return LayerCount(spec, sparsity, n_zeros, count)


def count_layers(
  specs: Sequence[LayerSpec],
  sparsities: Mapping[str, float],
  param_bits: int = 32,
  published_rules: bool = False,
) -> list[LayerCount]:
  """Counts layers correctly or as published.

  Args:
    specs: the layers.
    sparsities: {layer name: sparsity in [0, 1]}, for every layer.
    param_bits: bits of a weight or bias, at least 1.
    published_rules: whether to count as the published code does, with
      `count_layer_as_published`, instead of with `count_layer`.

  Raises:
    ValueError: if `sparsities` or `param_bits` is not as described.
  """
  missing = [spec.name for spec in specs if spec.name not in sparsities]
  if missing:
    raise ValueError(
      f"`sparsities` must have all layers, got none of {missing[:3]}."
    )
  count = count_layer_as_published if published_rules else count_layer
  return [count(spec, sparsities[spec.name], param_bits) for spec in specs]


def _check_sparsity(sparsity: float, spec: LayerSpec) -> None:
  if not 0 <= sparsity <= 1:
    raise ValueError(
      f"`sparsity` must be in [0, 1], got {sparsity} for {spec.name!r}."
    )


def scale_widths(
  specs: Sequence[LayerSpec],
  width: float,
  first_layer_name: str | None = None,
  last_layer_name: str | None = None,
) -> list[LayerSpec]:
  """Layers of a network with scaled numbers of channels, rounded down.

  The inputs of the first layer and the outputs of the last one stay.

  Args:
    specs: the layers.
    width: factor of the number of channels, finite and positive.
    first_layer_name: name of the first layer; None for the first of `specs`.
    last_layer_name: name of the last layer; None for the last of `specs`. With
      an unknown name the outputs of all layers are scaled.

  Raises:
    ValueError: if `width` is out of its range.
  """
  if not 0 < width < math.inf:
    raise ValueError(f"`width` must be positive and finite, got {width}.")
  if width == 1:
    return list(specs)
  first = first_layer_name or specs[0].name
  last = last_layer_name or specs[-1].name
  return [
    spec.scaled(width, not spec.is_called(first), not spec.is_called(last))
    for spec in specs
  ]
