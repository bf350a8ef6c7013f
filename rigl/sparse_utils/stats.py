# SPDX-License-Identifier: Apache-2.0
"""The cost of a network of a given sparsity, by the MicroNet rules."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rigl import counting
from rigl.checks import check_mapping, check_number
from rigl.sparse_utils.sparsities import get_sparsities


class Stats(NamedTuple):
  """Cost of a network.

  Attributes:
    total_flops: multiplications and additions of one example.
    total_param_bits: bits of all weights, biases and bit masks.
    real_sparsity: share of zeros among the weights of all kernels, in [0, 1].
  """

  total_flops: float
  total_param_bits: float
  real_sparsity: float


def get_stats(
  layers: Any,
  default_sparsity: float = 0.8,
  method: str = "erdos_renyi",
  custom_sparsities: Mapping[str, float] | None = None,
  is_debug: bool = False,
  width: float = 1.0,
  first_layer_name: str | None = None,
  last_layer_name: str | None = None,
  param_size: int = 32,
  erk_power_scale: float = 1.0,
  published_rules: bool = False,
) -> Stats:
  """Counts the operations and bits of a network of a given sparsity.

  >>> layers = [counting.LayerSpec('fc', 'dense', (100, 10))]
  >>> get_stats(layers, 0.9, 'random').total_param_bits
  4520

  Args:
    layers: a list of `counting.LayerSpec`s or Keras layers, a Keras model, or a
      model with a method `layer_specs`.
    default_sparsity: overall share of zeros, in [0, 1). Layers of kind
      `addition` or `multiplication` stay dense.
    method: one of `DISTRIBUTIONS`.
    custom_sparsities: {name of a layer or its kernel: sparsity in [0, 1)}, of
      layers that differ.
    is_debug: whether to print a table of all layers.
    width: factor of the numbers of channels.
    first_layer_name: name of the layer whose inputs are not scaled; None for
      the first.
    last_layer_name: name of the layer whose outputs are not scaled; None for
      the last.
    param_size: bits of a weight or bias, at least 1.
    erk_power_scale: non-negative exponent of `erdos_renyi_kernel`.
    published_rules: whether to count as the published code does, with
      `counting.count_layer_as_published`. It also distributes the sparsity over
      the layers before `width` scales them.

  Returns:
    The cost, as the named tuple `Stats`.

  Raises:
    ValueError: if an argument is not as described.
  """
  counted = get_layer_counts(
    layers,
    default_sparsity,
    method,
    custom_sparsities,
    width,
    first_layer_name,
    last_layer_name,
    param_size,
    erk_power_scale,
    published_rules,
  )
  if is_debug:
    print(counting.summary(counted))
  count = counting.total_count(counted)
  return Stats(count.flops, count.bits, counting.real_sparsity(counted))


def get_layer_counts(
  layers: Any,
  default_sparsity: float = 0.8,
  method: str = "erdos_renyi",
  custom_sparsities: Mapping[str, float] | None = None,
  width: float = 1.0,
  first_layer_name: str | None = None,
  last_layer_name: str | None = None,
  param_size: int = 32,
  erk_power_scale: float = 1.0,
  published_rules: bool = False,
) -> list[counting.LayerCount]:
  """Counts the operations and bits of every layer of a network.

  Args:
    layers: a list of `counting.LayerSpec`s or Keras layers, a Keras model, or
      a model with a method `layer_specs`.
    default_sparsity: overall share of zeros, in [0, 1).
    method: one of `DISTRIBUTIONS`, how it is distributed over layers.
    custom_sparsities: {name of a layer or its kernel: sparsity in [0, 1)}, of
      layers that differ.
    width: factor of the numbers of channels.
    first_layer_name: name of the layer whose inputs are not scaled; None for
      the first.
    last_layer_name: name of the layer whose outputs are not scaled; None for
      the last.
    param_size: bits of a weight or bias, at least 1.
    erk_power_scale: non-negative exponent of `erdos_renyi_kernel`.
    published_rules: whether to count as the published code does; it also
      distributes the sparsity over the layers before `width` scales them.

  Returns:
    The count of each layer, in the order of the layers.

  Raises:
    ValueError: if an argument is not as described.
  """
  check_number("param_size", param_size, 1)
  check_number("width", width)
  if custom_sparsities is not None:
    check_mapping("custom_sparsities", custom_sparsities, "{layer: sparsity}")
  specs = counting.find_layers(layers)
  # Positions and scales are no kernels; they stay dense.
  custom = {
    spec.name: 0.0 for spec in specs if spec.kind in counting.ELEMENTWISE_KINDS
  }
  custom |= counting.by_layer(specs, custom_sparsities or {})
  scaled = counting.scale_widths(
    specs, width, first_layer_name, last_layer_name
  )
  shapes = {
    spec.name: spec.kernel_shape
    for spec in (specs if published_rules else scaled)
  }
  sparsities = get_sparsities(
    shapes, method, default_sparsity, custom, erk_power_scale
  )
  return counting.count_layers(scaled, sparsities, param_size, published_rules)
