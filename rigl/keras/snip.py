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
