# SPDX-License-Identifier: Apache-2.0
"""DNW for Keras: the largest weights after every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rigl.keras import replicas
from rigl.keras.dense_weights import DenseWeightsOptimizer
from rigl.types import Tensor, Variable


@keras.saving.register_keras_serializable(package="rigl")
class DNW(DenseWeightsOptimizer):
  """DNW (discovering neural wirings): the largest weights after every step.

  Every weight, active or not, gets the dense gradient. Each step is, in every
  sparse variable,

      dense  = step(dense, gradient)
      mask   = the n_ones connections of largest |dense|
      kernel = mask * dense,

  where step is that of the inner optimizer, and n_ones is the number of active
  connections that `sparsity` and its distribution give the variable. A variable
  without a gradient is masked, too. Inactive weights and their slots keep
  training: the dense weights are in a variable beside the kernel.

  Wortsman et al., 2019, https://arxiv.org/abs/1906.00586, Algorithm 1.

  Raises:
    ValueError: if an argument is not as described, or `optimizer` averages
      weights (`use_ema`), which would average inactive ones into the model.

  Example:
    >>> optimizer = DNW("adamw", sparsity=0.9)
    >>> model.compile(optimizer, "mse")
  """

  def _train(
    self,
    grads: Sequence[Any],
    variables: list[Variable],
    present: Mapping[str, Any],
  ) -> None:
    self._step(grads, variables, present)

  def _after_step(self) -> None:
    """Sets masks and kernels by the magnitude of the dense weights."""
    weights = [tf.convert_to_tensor(k.variable) for k in self._kernels]
    inputs = [
      dict(
        weights=tf.reshape(each, [-1]),
        num_ones=self._num_ones(kernel),
        groups=kernel.groups,
      )
      for kernel, each in zip(self._kernels, weights, strict=True)
    ]
    masks = self._engine.map(self._largest, inputs)
    before = [kernel.snapshot() for kernel in self._kernels]
    for kernel, each, flat in zip(self._kernels, weights, masks, strict=True):
      mask = tf.reshape(flat, each.shape)
      replicas.assign(self._dense[kernel.path], each)
      replicas.assign(
        kernel.variable, tf.where(mask, each, tf.zeros_like(each))
      )
      kernel.set_mask(flat)
    self._note_changes(self._kernels, before)

  def _largest(self, kernels: list[dict[str, Any]]) -> list[Tensor]:
    return self._engine.top_k(
      [tf.abs(each["weights"]) for each in kernels],
      [each["num_ones"] for each in kernels],
      groups=[each["groups"] for each in kernels],
    )
