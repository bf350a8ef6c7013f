# SPDX-License-Identifier: Apache-2.0
"""Fixed masks for Keras: trains the connections that it starts with."""

from __future__ import annotations

import keras

from rigl.keras.base import SparseOptimizer


@keras.saving.register_keras_serializable(package="rigl")
class FixedMask(SparseOptimizer):
  """Fixed masks: trains the connections that it starts with.

  Every step is

      weight = mask * step(weight, mask * gradient),

  where step is that of the inner optimizer and the masks are random: sparse
  training from scratch, the baseline of Evci et al., 2020,
  https://arxiv.org/abs/1911.11134, section 4. With `sparsity` 0 it is dense
  training.

  Raises:
    ValueError: if an argument is not as described. `build` raises it if the
      sparsity cannot be distributed over the variables.

  Example:
    >>> optimizer = FixedMask("adamw", sparsity=0.9)
    >>> model.compile(optimizer, "mse")
  """

  takes_block_layers = True
