# SPDX-License-Identifier: Apache-2.0
"""Constant and needed channels of each operation, worked out by hand."""

import numpy as np
import pytest

from rigl.compression.operations import (
  Depthwise,
  Flatten,
  Map,
  Opaque,
  Padding,
  Product,
  Sum,
)

VARIES = np.nan


def constants(operation, *inputs):
  return operation.constants([np.array(each, float) for each in inputs])


def needs(operation, needed, *inputs):
  found = operation.needs(
    np.array(needed, bool), [np.array(each, float) for each in inputs]
  )
  return [each.astype(int).tolist() for each in found]


# Inputs by outputs: an output of both inputs, of one, of none.
KERNEL = np.array([[1.0, 0.0, 0.0], [2.0, 3.0, 0.0]])
BIAS = np.array([0.5, -4.0, -7.0])


def relu(values):
  return np.maximum(values, 0)


@pytest.mark.parametrize(
  "inputs, activation, expected",
  [
    ([VARIES, VARIES], None, [VARIES, VARIES, -7]),
    ([VARIES, VARIES], relu, [VARIES, VARIES, 0]),
    ([VARIES, 1], None, [VARIES, -1, -7]),
    ([VARIES, 1], relu, [VARIES, 0, 0]),
    ([10, 1], None, [12.5, -1, -7]),
  ],
)
def test_a_product_is_constant_where_its_connected_inputs_are(
  inputs, activation, expected
):
  product = Product(KERNEL, BIAS, activation=activation)
  np.testing.assert_array_equal(constants(product, inputs), expected)


def test_a_product_needs_inputs_that_vary_and_lead_to_needed_outputs():
  product = Product(KERNEL, BIAS)
  assert needs(product, [1, 0, 0], [VARIES, VARIES]) == [[1, 1]]
  assert needs(product, [0, 1, 0], [VARIES, VARIES]) == [[0, 1]]
  assert needs(product, [0, 0, 1], [VARIES, VARIES]) == [[0, 0]]
  assert needs(product, [1, 1, 1], [VARIES, 1]) == [[1, 0]]


def test_constants_contribute_by_the_sum_of_their_windows():
  window = np.stack([KERNEL, 10 * KERNEL])[None]  # 1x2.
  product = Product(window, BIAS)
  found = product.contribution(np.array([0.0, 2.0]))
  np.testing.assert_array_equal(found, [44, 66, 0])


def test_zeros_around_an_image_let_other_constants_vary():
  product = Product(KERNEL, BIAS, is_padded=True)
  found = constants(product, [0, 1])
  np.testing.assert_array_equal(found, [VARIES, VARIES, -7])
  assert needs(product, [1, 1, 1], [0, 1]) == [[0, 1]]
  np.testing.assert_array_equal(constants(Padding(2, abs), [0, 1]), [0, VARIES])


@pytest.mark.parametrize(
  "is_padded, expected",
  [(False, [VARIES, 1, 11, 1]), (True, [VARIES, 1, VARIES, 1])],
)
def test_a_depthwise_channel_without_weights_is_its_bias(is_padded, expected):
  kernel = np.array([[2.0, 0.0, 2.0, 2.0], [3.0, 0.0, 3.0, 3.0]])
  operation = Depthwise(kernel, np.ones(4), is_padded)
  found = constants(operation, [VARIES, VARIES, 2, 0])
  np.testing.assert_array_equal(found, expected)


def test_channels_of_maps_and_sums_are_those_of_their_inputs():
  square = Map(2, np.square)
  np.testing.assert_array_equal(constants(square, [3, VARIES]), [9, VARIES])
  found = constants(Sum(3), [1, 2, VARIES], [4, VARIES, 5])
  np.testing.assert_array_equal(found, [5, VARIES, VARIES])
  assert needs(Sum(2), [1, 0], [1, 2], [3, 4]) == [[1, 0], [1, 0]]


def test_a_flattened_channel_is_needed_if_it_is_at_any_place():
  flatten = Flatten(places=3, inputs=2)
  found = constants(flatten, [VARIES, 4])
  np.testing.assert_array_equal(found, [VARIES, 4] * 3)
  assert needs(flatten, [0, 0, 0, 1, 0, 0], [VARIES, 4]) == [[0, 1]]
  assert needs(flatten, [0, 0, 0, 0, 0, 0], [VARIES, 4]) == [[0, 0]]


def test_what_is_not_known_varies_and_needs_everything():
  np.testing.assert_array_equal(constants(Opaque(2), [1, 2]), [VARIES] * 2)
  assert needs(Opaque(2), [0, 0], [1, 2]) == [[1, 1]]
