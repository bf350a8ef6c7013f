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

  Args:
    optimizer: the Keras optimizer that makes the gradient steps, its name or
      its configuration; it must be new.
    sparsity: overall share of zeros in the sparse variables, in [0, 1). None:
      0.9, or what `structure` fixes.
    distribution: how it is distributed over the variables: `erk`
      (Erdos-Renyi-kernel), `erdos_renyi`, `uniform`, or {path or regex:
      sparsity}, where variables that no key names get `sparsity`. None: `erk`,
      or `uniform` if `structure` fixes the sparsity.
    filters: which variables are sparse. None: all kernels, which are weights
      of rank 2 and more that a layer calls `kernel`, `recurrent_kernel` or
      `pointwise_kernel`, but not those of depthwise convolutions. A regex or a
      list of regexes: the kernels in whose path one is found; a full path also
      chooses a variable that is no kernel. A function: the kernels for whose
      path it returns true.
    seed: seed of all random numbers, at least 0.
    mask_engine: how connections are chosen, which changes the speed and not
      the choice: `xla`, `batched`, `numpy` (not inside `jit_compile=True`), or
      `auto` by the devices that TensorFlow has.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active; `fan_in` keeps the same number of connections per
      output. None: only that per variable is fixed.
    name: name of this optimizer. None: one that Keras makes.
    **kwargs: none; arguments of Keras optimizers belong to `optimizer`.

  Raises:
    ValueError: if an argument is not as described. `build` raises it if the
      sparsity cannot be distributed over the variables.

  Example:
    >>> optimizer = FixedMask("adamw", sparsity=0.9)
    >>> model.compile(optimizer, "mse")
  """

  takes_block_layers = True
