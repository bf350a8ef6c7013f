# SPDX-License-Identifier: Apache-2.0
"""Which variables of a factor multiply; counts are worked out by hand."""

import pytest
import tensorflow as tf

from rigl.counting.graphs import kernels, products
from rigl.counting.graphs.labels import Weights

VECTORS, INPUTS, OUTPUTS = 5, 8, 16
PRODUCTS = VECTORS * INPUTS * OUTPUTS
SUMS = VECTORS * OUTPUTS


def uses(factor, *shapes, vectors=VECTORS, trainable=(), dtype=tf.float32):
  """The uses of variables in a product of vectors and a factor.

  Args:
    factor: function of placeholders of the variables, [inputs, outputs].
    shapes: shapes of the variables.
    vectors: number of vectors.
    trainable: whether each is trained; those that are left out are.
    dtype: type of the variables.
  """
  with tf.Graph().as_default():
    x = tf.compat.v1.placeholder(tf.float32, [vectors, INPUTS])
    values = [tf.compat.v1.placeholder(dtype, shape) for shape in shapes]
    made = factor(*values)
    operation = tf.matmul(x, made).op
    flags = [*trainable, *[True] * (len(shapes) - len(trainable))]
    variables = [
      Weights(f"v{i}", tuple(shape), is_trained, dtype)
      for i, (shape, is_trained) in enumerate(zip(shapes, flags, strict=True))
    ]
    return kernels.uses_of_factor(
      operation,
      made,
      range(len(shapes)),
      products.product_of(operation),
      variables,
    )


def counts(found):
  assert not any(use.problem for use in found)
  return [(use.weights, use.multiplications, use.results) for use in found]


def test_a_kernel_does_all_multiplications():
  found = uses(tf.identity, [INPUTS, OUTPUTS])
  assert counts(found) == [(0, PRODUCTS, SUMS)]
  assert found[0].kind == "dense" and found[0].shape is None


def test_kernels_side_by_side_share_by_their_sizes():
  found = uses(lambda *parts: tf.concat(parts, 1), [INPUTS, 4], [INPUTS, 12])
  assert counts(found) == [
    (0, PRODUCTS / 4, SUMS / 4),
    (1, PRODUCTS * 3 / 4, SUMS * 3 / 4),
  ]


def test_what_is_folded_into_a_kernel_is_stored_and_multiplies_nothing():
  found = uses(
    lambda kernel, a, b: kernel + a @ b,
    [INPUTS, OUTPUTS],
    [INPUTS, 2],
    [2, OUTPUTS],
  )
  assert counts(found) == [(0, PRODUCTS, SUMS), (1, 0, 0), (2, 0, 0)]


def test_a_mask_that_is_not_trained_has_no_use():
  shape = [INPUTS, OUTPUTS]
  found = uses(tf.multiply, shape, shape, trainable=[False])
  assert counts(found) == [(1, PRODUCTS, SUMS)]


@pytest.mark.parametrize(
  "dtype, size",
  [(tf.float32, INPUTS * OUTPUTS), (tf.int8, INPUTS * OUTPUTS // 2)],
  ids=["as they are", "two in an integer"],
)
def test_a_list_of_weights_gets_the_shape_of_the_factor(dtype, size):
  def kernel(weights):
    parts = [weights] * (INPUTS * OUTPUTS // size)
    wide = tf.cast(tf.concat(parts, 0), tf.float32)
    return tf.reshape(wide, [INPUTS, OUTPUTS])

  (found,) = uses(kernel, [size], dtype=dtype)
  assert counts([found]) == [(0, PRODUCTS, SUMS)]
  assert found.shape == (INPUTS, OUTPUTS) and found.kind == "dense"


def test_a_product_of_two_kernels_is_a_problem_of_both():
  found = uses(tf.matmul, [INPUTS, 4], [4, OUTPUTS])
  problem = "multiplies by a kernel made of several variables"
  assert [use.problem for use in found] == [problem, problem]


def test_an_unknown_number_of_vectors_is_a_problem():
  (found,) = uses(tf.identity, [INPUTS, OUTPUTS], vectors=None)
  assert found.problem == "has an unknown size"
