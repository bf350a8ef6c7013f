# SPDX-License-Identifier: Apache-2.0
"""SET for Keras: drop by magnitude, grow at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from rigl.keras.drop_grow import DropGrowOptimizer
from rigl.keras.sparse_kernel import SparseKernel
from rigl.types import Tensor


@keras.saving.register_keras_serializable(package="rigl")
class SET(DropGrowOptimizer):
  """SET (sparse evolutionary training): grows connections at random.

  After the gradient step of an update, in every sparse variable of n active
  connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many, uniformly at random among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. A connection can be dropped
  and grown back at once; it then keeps its weight. Others start at `grow_init`,
  with fresh slots.

  Mocanu et al., 2018, https://arxiv.org/abs/1707.04780, Algorithm 2.

  Args:
    drop_gradient_weight: at least 0; this times |gradient| is added to
      |weight + noise| when dropping (Yuan et al., 2021).
      Above 0 an update takes the place of a gradient step, as in RigL, because
      its batch gives the gradient.

  Raises:
    ValueError: if an argument is not as described. `build` raises it if the
      sparsity cannot be distributed over the variables.

  Example:
    >>> optimizer = SET("adamw", sparsity=0.9)
    >>> model.compile(optimizer, "mse")
  """

  takes_options = True

  def _signals(
    self, kernels: Sequence[SparseKernel], present: Mapping[str, Any]
  ) -> list[Tensor | None]:
    if not self._options.drop_gradient_weight:
      return super()._signals(kernels, present)
    return list(self._mean_gradients(kernels, present))

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return self._random_uniform(mask.shape[0], key)
