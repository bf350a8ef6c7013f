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

  Args:
    optimizer: the `tf.compat.v1.train` optimizer that makes the gradient
      steps, such as `MomentumOptimizer`.
    use_locking: unused; part of the interface of `tf.compat.v1.train`.
    name: name of this optimizer. None: the name of the class.
    weight_decay: at least 0; the gradient of a weight w becomes
      g + weight_decay * w, the gradient of loss + weight_decay * sum(w^2) / 2.
      Masks are never derived from this part.
    weight_decay_filter: function of a variable that returns whether it has
      weight decay. None: all variables of rank 2 and more have it.
    seed: seed of all random numbers, together with layer names and steps.
    mask_engine: how connections are chosen, which changes the speed and not
      the choice: `xla` layer by layer, for CPUs; `batched` all layers at once,
      for GPUs and TPUs; `numpy` on the host, with nothing to compile; `auto`
      by the devices that TensorFlow has.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active, for a sparsity of 1 - N / M; `fan_in` keeps the same
      number of connections per output. None: only that per layer is fixed.

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
