# SPDX-License-Identifier: Apache-2.0
"""SNIP for Keras: one-shot pruning at initialisation by sensitivity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from rigl.keras import replicas
from rigl.keras.target_sparsity import TargetSparsityOptimizer
from rigl.types import Tensor


@keras.saving.register_keras_serializable(package="rigl")
class SNIP(TargetSparsityOptimizer):
  """SNIP: prunes once, before training, by connection sensitivity.

  Training starts dense. The first batch makes no gradient step; in every sparse
  variable,

      mask = the n_ones connections of largest |gradient * weight|,

  where n_ones is what the distribution of `sparsity` gives the variable. All
  later batches make gradient steps with this mask.

  Lee et al., 2019, https://arxiv.org/abs/1810.02340, Algorithm 1; the numbers
  of connections are fixed per variable as in Evci et al., 2020.

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
    >>> optimizer = SNIP("adamw", sparsity=0.9)
    >>> model.compile(optimizer, "mse")
  """

  update_is_iteration = True
  accumulates_dense = True

  def _create_state(self) -> None:
    super()._create_state()
    self._is_snipped = self._new_counter(0, "is_snipped")

  def _is_due(self, step: Tensor) -> Tensor:
    snipped = tf.convert_to_tensor(self._is_snipped)
    return tf.equal(step, 0) & tf.equal(snipped, 0)

  def _update(self, present: Mapping[str, Any], step: Tensor) -> None:
    replicas.update(
      self._is_snipped, lambda flag: flag.assign(tf.ones_like(flag))
    )
    kernels = [k for k in self._kernels if k.path in present]
    inputs = [
      dict(
        weights=tf.reshape(tf.convert_to_tensor(kernel.variable), [-1]),
        gradient=tf.reshape(gradient, [-1]),
        num_ones=self._num_ones(kernel),
        groups=kernel.groups,
      )
      for kernel, gradient in zip(
        kernels, self._mean_gradients(kernels, present), strict=True
      )
    ]
    self._assign_masks(kernels, self._engine.map(self._most_sensitive, inputs))

  def _most_sensitive(self, kernels: list[dict[str, Any]]) -> list[Tensor]:
    return self._engine.top_k(
      [tf.abs(each["weights"] * each["gradient"]) for each in kernels],
      [each["num_ones"] for each in kernels],
      groups=[each["groups"] for each in kernels],
    )
