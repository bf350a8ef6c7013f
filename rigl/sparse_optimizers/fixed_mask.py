# SPDX-License-Identifier: Apache-2.0
"""Fixed masks: sparse training from scratch, and the dense baseline."""

from __future__ import annotations

from rigl.configurable import configurable
from rigl.sparse_optimizers.base import SparseOptimizer


@configurable(unrecorded=["mask_engine", "structure"])
class SparseFixedMaskOptimizer(SparseOptimizer):
  """Fixed masks: trains the connections that it starts with.

  Every step is

      weight = mask * step(weight, mask * gradient + weight_decay * weight),

  where step is that of the wrapped optimizer. With masks it is the method
  `scratch`, sparse training from scratch with random static masks (Evci et
  al., 2020, https://arxiv.org/abs/1911.11134, section 4); without masks it is
  the dense `baseline`.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseFixedMaskOptimizer(inner)
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.sparsify([kernel], "random", default_sparsity=0.5)
    {'layer1': 0.5}
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  takes_block_layers = True
