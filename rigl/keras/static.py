# SPDX-License-Identifier: Apache-2.0
"""Static masks for Keras: re-initialises the smallest weights."""

from __future__ import annotations

import keras
import tensorflow as tf

from rigl import mask_ops
from rigl.keras.drop_grow import DropGrowOptimizer
from rigl.types import Tensor


@keras.saving.register_keras_serializable(package="rigl")
class Static(DropGrowOptimizer):
  """Static masks whose smallest weights are re-initialised.

  After the gradient step of an update, in every sparse variable of n active
  connections, the int(n * f) of smallest |weight + noise| start anew at
  `grow_init`, with fresh slots, where f is `drop_fraction`, annealed. The masks
  never change. It is the baseline `static` of Evci et al., 2020,
  https://arxiv.org/abs/1911.11134; masks whose weights are left alone are
  `FixedMask`.

  Raises:
    ValueError: if an argument is not as described. `build` raises it if the
      sparsity cannot be distributed over the variables.

  Example:
    >>> optimizer = Static("adamw", sparsity=0.9)
    >>> model.compile(optimizer, "mse")
  """

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.cast(mask, tf.float32)

  def _new(self, result: mask_ops.DropGrow, old_mask: Tensor) -> Tensor:
    return result.grown
