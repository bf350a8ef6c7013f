# SPDX-License-Identifier: Apache-2.0
"""Kernels: the variables that a factor of a product is made of."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rigl.counting.graphs import products
from rigl.counting.graphs.labels import Use, Weights
from rigl.types import Tensor


def uses_of_factor(
  operation: tf.Operation,
  factor: Tensor,
  sources: Sequence[int],
  product: products.Product,
  variables: Sequence[Weights],
) -> list[Use]:
  """The uses of the variables that a factor of a product depends on.

  Args:
    operation: the operation that computes the product.
    factor: one of its two factors.
    sources: indices of the variables that the factor is computed from.
    product: what the operation multiplies.
    variables: the variables of the model.

  Returns:
    One use for each variable. Several that make up the factor share its
    multiplications by their sizes. Others that it depends on are stored, and
    multiply nothing.
  """
  kernels, folded = _kernels(factor, sources, variables)
  uses = [_use(operation, factor, w, product, variables) for w in kernels]
  if len(kernels) > 1:
    sizes = [variables[w].size for w in kernels]
    for use, size in zip(uses, sizes, strict=True):
      use.times(size / sum(sizes))
      if products.elements(factor) != sum(sizes):
        use.problem = "multiplies by a kernel made of several variables"
  for weights in folded:
    # They are stored, and their product or sum is computed only once.
    uses.append(_use(operation, factor, weights, product, variables))
    uses[-1].times(0)
  return uses


def _use(
  operation: tf.Operation,
  factor: Tensor,
  weights: int,
  product: products.Product,
  variables: Sequence[Weights],
) -> Use:
  """The use of a variable, as if it were all of a factor."""
  variable = variables[weights]
  use = Use(
    weights,
    products.kind_of(operation, variable.rank),
    operation,
    product.multiplications,
    product.results,
  )
  size = products.elements(factor)
  is_list = variable.rank < 2 and size == variable.size
  if is_list or (size != variable.size and variable.is_stored_as(size)):
    use.shape = tuple(factor.shape.as_list())
    use.kind = products.kind_of(operation, len(use.shape))
  if use.multiplications is None or use.results is None:
    use.problem = "has an unknown size"
  return use


def _kernels(
  factor: Tensor, sources: Sequence[int], variables: Sequence[Weights]
) -> tuple[list[int], list[int]]:
  """Variables that a factor consists of, and others that it depends on."""
  for is_kernel in (
    lambda w: w.must_count,
    lambda w: w.rank >= 2,
    lambda w: w.size > 1,
  ):
    kernels = [s for s in sources if is_kernel(variables[s])]
    if kernels:
      break
  # `kernel * learned_mask`, `kernel + low_rank_update`: one kernel.
  size = products.elements(factor)
  alike = [s for s in kernels if variables[s].is_stored_as(size)][:1]
  if not alike:
    return kernels, []
  return alike, [
    s for s in kernels if s not in alike and variables[s].is_trainable
  ]
