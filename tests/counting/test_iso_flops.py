# SPDX-License-Identifier: Apache-2.0
"""The width at which a sparse network costs as much as a dense one."""

import math

import pytest

from rigl import sparse_utils
from rigl.counting import (
  LayerSpec,
  architectures,
  count_layer,
  iso_flops_width,
  scale_widths,
  total_count,
)


def inner(channels):
  """A 1x1 convolution of one pixel whose two sides scale; 2 n^2 FLOPs."""
  shape = (1, 1, channels, channels)
  return LayerSpec("c", "conv2d", shape, 1, activation=None)


@pytest.mark.parametrize(
  "sparsity, width", [(0.75, 2.0), (0.9375, 4.0), (1 - 1 / 64, 8.0)]
)
def test_where_both_sides_scale_it_is_the_formula(sparsity, width):
  def flops(factor):
    return count_layer(inner(int(64 * factor)), sparsity).count.flops

  # 64 * 64 multiplications and, with the biases, additions.
  assert iso_flops_width(flops, 2 * 64**2) == width == (1 - sparsity) ** -0.5


def test_a_network_by_hand():
  # Dense: 10 x 8 and 8 x 4 weights, a multiplication and an addition for each
  # (the first of a sum is free, and the bias takes its place), and 8 ReLUs.
  layers = [
    LayerSpec("a", "dense", (10, 8)),
    LayerSpec("b", "dense", (8, 4), activation=None),
  ]
  budget = 2 * (80 + 32) + 8

  def flops(width):
    counted = [count_layer(n, 0.5) for n in scale_widths(layers, width)]
    return total_count(counted).flops

  # With n hidden units: 5 n and 2 n weights are left, and n ReLUs: 15 n. 15
  # units cost 225, 16 cost 240, and the budget is 232. 15 / 8 = 1.875.
  assert [flops(1.875), flops(2.0)] == [225, 240]
  assert iso_flops_width(flops, budget) == 1.875


def test_without_zeros_it_is_one():
  assert iso_flops_width(lambda width: int(64 * width) ** 2, 64**2) == 1.0
  # Also where nothing scales.
  assert iso_flops_width(lambda width: 5.0, 5.0) == 1.0


NETWORKS = ("resnet18", "mobilenet_v1", "mobilenet_v2", "wrn_16_4", "vgg_a")


@pytest.mark.parametrize("name", [*NETWORKS, "mnist_fc"])
@pytest.mark.parametrize("method", ["random", "erdos_renyi_kernel"])
def test_networks_cost_the_budget_but_for_a_channel(name, method):
  def flops(width, sparsity=0.8):
    layers = architectures.network(name, width)
    counted = sparse_utils.get_layer_counts(layers, sparsity, method, {})
    return total_count(counted).flops

  budget = flops(1.0, 0.0)
  width = iso_flops_width(flops, budget)
  assert width > 1
  # MobileNets have multiples of 8 channels.
  assert 0.97 * budget < flops(width) <= budget < flops(width + 0.5)
  assert flops(width - 0.0001) < flops(width)


def test_first_layers_that_stay_dense_need_less_width():
  def flops(width, sparsity=0.9, first=None):
    layers = architectures.network("vgg_16", width)
    custom = {} if first is None else {layers[0].name: first}
    counted = sparse_utils.get_layer_counts(layers, sparsity, "random", custom)
    return total_count(counted).flops

  budget = flops(1.0, 0.0)
  uniform = iso_flops_width(flops, budget)
  dense_first = iso_flops_width(lambda w: flops(w, first=0.0), budget)
  assert 1 < dense_first < uniform


@pytest.mark.parametrize(
  "flops, budget, largest, message",
  [
    (
      lambda w: 5.0,
      6.0,
      100.0,
      "less than the 5 FLOPs at the width 100, got 6",
    ),
    (lambda w: w, 9.0, 8.0, "less than the 8 FLOPs at the width 8, got 9"),
    (lambda w: w, 0.5, 8.0, "at least the 1 FLOPs at the width 1, got 0.5"),
    (lambda w: w, 0.0, 8.0, "`budget` must be positive and finite, got 0"),
    (lambda w: w, math.nan, 8.0, "`budget` must be positive and finite"),
    (lambda w: w, math.inf, 8.0, "`budget` must be positive and finite"),
    (lambda w: w, 2.0, 0.5, "`largest` must be at least 1 and finite, got 0.5"),
  ],
)
def test_what_cannot_be_solved_is_an_error(flops, budget, largest, message):
  with pytest.raises(ValueError, match=message):
    iso_flops_width(flops, budget, largest)


def test_the_largest_width_may_be_the_answer():
  assert iso_flops_width(lambda w: w, 7.5, 8.0) == 7.5
  assert iso_flops_width(lambda w: math.floor(w), 7.5, 8.0) == 7.0
