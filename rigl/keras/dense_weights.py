# SPDX-License-Identifier: Apache-2.0
"""Weights of inactive connections that live on, beside a Keras variable.

The base of DNW and Top-KAST.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rigl.keras import replicas
from rigl.keras.sparse_kernel import SparseKernel, keep_masked
from rigl.keras.target_sparsity import TargetSparsityOptimizer
from rigl.keras.wrapper import parts_of
from rigl.types import Tensor, Variable


class DenseWeightsOptimizer(TargetSparsityOptimizer):
  """Steps dense weights, of which the sparse variables hold the active ones.

  Every sparse variable has another one beside it with all its weights,

      kernel = mask * dense.

  A gradient step takes the gradients of the masked kernel and makes the step of
  the inner optimizer with the dense weights. A method says in `_after_step`
  which of them it keeps. Active weights that were assigned to the kernel by
  other means become dense weights in the next step.
  """

  takes_compact_layers = False
  _dense: dict[str, keras.Variable]

  @classmethod
  def _check_inner(cls, inner: keras.optimizers.Optimizer) -> None:
    if any(part.use_ema for part in parts_of(inner)):
      raise ValueError(
        f"`optimizer` of {cls.__name__} must not average weights, got "
        "use_ema=True: the averages would bring back inactive weights."
      )

  @property
  def dense_weights(self) -> dict[str, keras.Variable]:
    """{path: the weights with those of inactive connections}."""
    return {kernel.path: self._dense[kernel.path] for kernel in self._kernels}

  def _create_state(self) -> None:
    super()._create_state()
    self._dense = {}
    for kernel in self._kernels:
      self._dense[kernel.path] = self._new_copy(kernel, "dense")

  def _start_from_weights(self) -> None:
    for kernel in self._kernels:
      self._dense[kernel.path].assign(kernel.variable)
    super()._start_from_weights()

  def _step(
    self,
    grads: Sequence[Any],
    variables: list[Variable],
    present: Mapping[str, Any],
  ) -> None:
    del present
    for kernel in self._kernels:
      dense = self._dense[kernel.path]
      replicas.update(kernel.variable, _unmask, kernel.mask, dense)

    def step(gradients: Sequence[Any]) -> None:
      self.inner_optimizer.apply(
        [
          g if g is None else self._of_step(g, v)
          for g, v in zip(gradients, variables, strict=True)
        ],
        variables,
      )

    replicas.on_replicas(step, list(grads))
    self._after_step()

  def _of_step(self, gradient: Any, variable: Variable) -> Tensor:
    """Hook: the gradient that the inner optimizer gets, in a replica.

    Args:
      gradient: that of the loss, of the masked kernel.
      variable: its variable.
    """
    del variable
    # A tensor of this graph, or the branch of a condition could not be
    # differentiated, which TensorFlow wants of every sum over replicas.
    return tf.identity(gradient)

  def _after_step(self) -> None:
    """Hook: sets dense weights and kernels after a step of the dense weights.

    The variables hold the result of the step.
    """
    raise NotImplementedError

  def _clear(self, all_slots: bool = False) -> None:
    """Masks the weights alone, because the slots live on."""
    for kernel in self._kernels:
      replicas.update(kernel.variable, keep_masked, kernel.mask)

  def _sparse_kernel_of(self, variable: Variable) -> SparseKernel | None:
    return self._kernel_at.get(self._get_variable_index(variable))


def _unmask(variable: Variable, mask: Tensor, dense: Tensor) -> None:
  """Sets inactive weights to those of the dense ones."""
  weights = tf.convert_to_tensor(variable)
  variable.assign(tf.where(mask, weights, tf.convert_to_tensor(dense)))
