# SPDX-License-Identifier: Apache-2.0
"""Costs of kernels and layers, against counts that are worked out by hand."""

import math

import layer_oracle
import pytest

from rigl import counting
from rigl.counting import costs
from rigl.counting.costs import Count, kernel_cost, output_size


def test_convolution_by_hand():
  # 4 x 4 outputs, each of 3 * 3 * 2 products for 5 channels, and 5 biases.
  spec = counting.LayerSpec(
    "a", "conv2d", (3, 3, 2, 5), (8, 8), (2, 2), activation=None
  )
  assert layer_oracle.count(spec, 0, 32) == Count(16 * 90, 16 * 90, 32 * 95, 0)


def test_depthwise_convolution_by_hand():
  # 6 x 6 outputs of 5 channels, 9 products and 8 sums each.
  spec = counting.LayerSpec(
    "a",
    "depthwise_conv2d",
    (3, 3, 5, 1),
    (8, 8),
    padding="valid",
    activation=None,
    use_bias=False,
  )
  count = layer_oracle.count(spec, 0, 32)
  assert count == Count(36 * 45, 36 * 40, 45 * 32, 0)


def test_dense_layer_by_hand():
  spec = counting.LayerSpec("a", "dense", (10, 4), activation="relu")
  count = layer_oracle.count(spec, 20, 32)
  assert count == Count(20 + 4, 20 - 4 + 4, 24 * 32, 40)


def test_fewer_weights_than_outputs_need_no_additions():
  assert kernel_cost(12, 3, 5, n_zeros=10, use_bias=False).additions == 0


def test_bias_adds_one_addition_and_one_value_an_output():
  without = kernel_cost(12, 3, 4, use_bias=False)
  with_bias = kernel_cost(12, 3, 4)
  assert with_bias.additions - without.additions == 4 * 3
  assert with_bias.value_bits - without.value_bits == 3 * 32
  assert with_bias.multiplications == without.multiplications


@pytest.mark.parametrize("param_bits", [1, 16, 32])
def test_sparse_storage_is_a_bit_mask_and_values(param_bits):
  dense = kernel_cost(100, 10, 1, 0, param_bits, use_bias=False)
  assert (dense.mask_bits, dense.value_bits) == (0, 100 * param_bits)
  sparse = kernel_cost(100, 10, 1, 60, param_bits, use_bias=False)
  assert (sparse.mask_bits, sparse.value_bits) == (100, 40 * param_bits)
  assert sparse.bytes == (100 + 40 * param_bits) / 8


@pytest.mark.parametrize(
  "activation, multiplications, additions",
  [(None, 0, 0), ("relu", 1, 0), ("sigmoid", 2, 1), ("swish", 3, 1)],
)
def test_activations_cost_by_element(activation, multiplications, additions):
  plain = kernel_cost(12, 3, 4)
  count = kernel_cost(12, 3, 4, activation=activation)
  assert count.multiplications - plain.multiplications == 12 * multiplications
  assert count.additions - plain.additions == 12 * additions


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 3, 7])
def test_output_size_counts_the_places_of_the_window(padding, stride, window):
  for size in range(window, 20):
    padded = size + window - 1 if padding == "same" else size
    places = len(range(0, padded - window + 1, stride))
    assert output_size(size, window, stride, padding) == places


def test_window_larger_than_the_image_is_refused():
  with pytest.raises(ValueError, match="`input_size` must be at least .* 3"):
    output_size(3, 7, 1, "valid")
  with pytest.raises(ValueError, match="`padding` .* got 'full'"):
    output_size(3, 1, 1, "full")


def test_totals_add_up():
  counts = [Count(1, 2, 3, 4), Count(10, 20, 30, 40)]
  assert counting.total(counts) == Count(11, 22, 33, 44)
  assert counting.total(counts).flops == 33
  assert counting.total(counts).bits == 77


def test_unknown_activation_is_refused():
  with pytest.raises(ValueError, match="`activation` .* got 'gelu'"):
    costs.activation_cost("gelu", 3)


@pytest.mark.parametrize(
  "spec",
  [
    counting.LayerSpec("a", "conv2d", (3, 5, 4, 8), (9, 7), (2, 1), "valid"),
    counting.LayerSpec("b", "conv2d", (3, 3, 4, 8), 9, 2, activation="swish"),
    counting.LayerSpec("c", "depthwise_conv2d", (3, 3, 4, 2), 9, 2),
    counting.LayerSpec("d", "dense", (12, 7), use_bias=False),
  ],
)
def test_layers_cost_what_walking_over_them_counts(spec):
  for sparsity in (0.0, 0.5, 0.97):
    counted = counting.count_layer(spec, sparsity, 16)
    n_zeros = math.floor(sparsity * spec.size)
    assert counted.n_zeros == n_zeros
    assert counted.count == layer_oracle.count(spec, n_zeros, 16)


@pytest.mark.parametrize(
  "count", [counting.count_layer, counting.count_layer_as_published]
)
def test_impossible_sparsities_and_bits_are_refused(count):
  spec = counting.LayerSpec("fc", "dense", (10, 5))
  for sparsity in (-0.1, 1.5, float("nan")):
    with pytest.raises(ValueError, match="`sparsity` must be .* for 'fc'"):
      count(spec, sparsity)
  with pytest.raises(ValueError, match="`param_bits` must be .* got 0"):
    count(spec, 0.5, 0)


def test_impossible_numbers_of_zeros_are_refused():
  with pytest.raises(ValueError, match=r"`n_zeros` .* \[0, 50\], got 51"):
    kernel_cost(50, 5, 1, n_zeros=51)


def test_layers_without_a_sparsity_are_refused():
  with pytest.raises(ValueError, match=r"`sparsities` must .* \['fc'\]"):
    counting.count_layers([counting.LayerSpec("fc", "dense", (10, 5))], {})
