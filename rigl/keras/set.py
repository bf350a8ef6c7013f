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
    optimizer: the Keras optimizer that makes the gradient steps, its name or
      its configuration; it must be new.
    sparsity: overall share of zeros in the sparse variables, in [0, 1). None:
      0.9, or what `structure` fixes.
    distribution: how it is distributed over the variables: `erk`
      (Erdos-Renyi-kernel), `erdos_renyi`, `uniform`, or {path or regex:
      sparsity}, where variables that no key names get `sparsity`. None: `erk`,
      or `uniform` if `structure` fixes the sparsity.
    begin_step: first value of `iterations` that may update, at least 0.
    end_step: last value of `iterations` that may update; the paper uses 3/4 of
      all steps. None: no end, and then f stays constant.
    frequency: least number of steps between two updates, at least 1.
    drop_fraction: share f of the active connections to drop in the first
      update, in [0, 1].
    anneal: how f falls from `begin_step` to `end_step`, with p in [0, 1] the
      share of that window that has passed: `cosine`, f * (1 + cos(pi * p)) / 2;
      `constant`; or `exponential[_K]`, f * (1 - p) ** K with K > 0.
    grow_init: initial weights of grown connections: `zeros`; `initial_dist`,
      drawn from the initial weights of the variable; `random_normal`, with the
      standard deviation of the active weights; or `random_uniform`, in plus or
      minus their mean magnitude. All but `zeros` may be followed by `_K` to
      divide by K > 0, such as `random_normal_10`.
    filters: which variables are sparse. None: all kernels, which are weights
      of rank 2 and more that a layer calls `kernel`, `recurrent_kernel` or
      `pointwise_kernel`, but not those of depthwise convolutions. A regex or a
      list of regexes: the kernels in whose path one is found; a full path also
      chooses a variable that is no kernel. A function: the kernels for whose
      path it returns true.
    seed: seed of all random numbers, at least 0.
    noise_std: standard deviation of the noise on |weight| when dropping, at
      least 0. It breaks ties by chance; 0 breaks them by index.
    mask_engine: how connections are chosen, which changes the speed and not
      the choice: `xla`, `batched`, `numpy` (not inside `jit_compile=True`), or
      `auto` by the devices that TensorFlow has.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active; `fan_in` keeps the same number of connections per
      output. None: only that per variable is fixed.
    track_exploration: whether to note which connections were ever active, for
      `explored_shares`. It costs one byte per connection, in checkpoints as
      well, and no time outside of mask updates.
    soft_memory: whether there is a surplus of connections between updates
      (Yuan et al., 2021, https://arxiv.org/abs/2110.14032). An update then
      keeps the n connections of largest |weight + noise|, n being what the
      variable had at the start, and grows int(n * f), at most the whole
      variable; the last update that fits before `end_step` only drops.
      `sparsity` is that of n. It needs an end.
    across_layers: whether connections are compared over all variables (Yin et
      al., 2023, https://arxiv.org/abs/2305.19454): all together keep their
      number, and each may win or lose some; those that were given all of their
      connections stay dense. Only for layers of ordinary storage.
    layer_floor: least share of its n connections that a variable keeps with
      `across_layers`, in [0, 1]; at least one.
    drop_gradient_weight: at least 0; this times |gradient| is added to
      |weight + noise| when dropping (Yuan et al., 2021).
      Above 0 an update takes the place of a gradient step, as in RigL, because
      its batch gives the gradient.
    name: name of this optimizer. None: one that Keras makes.
    **kwargs: none; arguments of Keras optimizers belong to `optimizer`.

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
