# SPDX-License-Identifier: Apache-2.0
"""The common part of all sparse Keras optimizers: masked steps.

A method derives from `SparseOptimizer` and says which masks it starts with,
and when and how it changes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rigl.keras import replicas
from rigl.keras.saved_masks import SavedMasks
from rigl.types import Tensor, Variable


class SparseOptimizer(SavedMasks):
  """Wraps a Keras optimizer and keeps the kernels of a model sparse.

  After every call of `apply`, and after `fit`,

      kernel == kernel * mask,

  and the slots (momentum, Adam moments, averages) of inactive connections have
  the values that they start with. The model itself is an ordinary one.

  This class never changes the masks. A method overrides `_train`.

  Raises:
    ValueError: if an argument is not as described.
  """

  # In a `tf.function` of a user, AutoGraph would convert this code as well.
  @tf.autograph.experimental.do_not_convert
  def apply(
    self,
    grads: Sequence[Any],
    trainable_variables: Sequence[Variable] | None = None,
  ) -> None:
    """One training iteration: a gradient step, a mask update, or both.

    Args:
      grads: dense gradients of the loss; None for a variable without one,
        which keeps its weights and masks. In a replica of `tf.distribute`, its
        own gradients, whose sum is used.
      trainable_variables: their variables. None: those of `build`.

    Raises:
      ValueError: if the gradients do not fit the variables, a variable is
        unknown, or this is called outside of a replica.
    """
    grads = list(grads)
    if not grads:
      return
    if tf.distribute.in_cross_replica_context():
      raise ValueError(
        "`apply` must be called in a replica: inside strategy.run(...)."
      )
    if trainable_variables is None:
      if not self.built:
        raise ValueError(
          "`trainable_variables` is needed in the first call of `apply`, or "
          "call build(model.trainable_variables) before."
        )
      variables = list(self._trainable_variables)
    else:
      variables = list(trainable_variables)
    if len(grads) != len(variables):
      raise ValueError(
        f"`grads` must have one gradient for each of {len(variables)} "
        f"variables, got {len(grads)}."
      )
    if not self.built:
      self._build_in_replica(variables)
    self._check_variables_are_known(variables)
    if all(gradient is None for gradient in grads):
      raise ValueError("`grads` must have a gradient for some variable.")
    replicas.merge(lambda gradients: self._iterate(gradients, variables), grads)

  def _build_in_replica(self, variables: list[Variable]) -> None:
    if not tf.distribute.has_strategy():
      self.build(variables)
      return
    context = tf.distribute.get_replica_context()
    context.merge_call(lambda _: self.build(variables))

  def _iterate(self, grads: Sequence[Any], variables: list[Variable]) -> None:
    places = [self._get_variable_index(variable) for variable in variables]
    present = {
      self._kernel_at[place].path: gradient
      for place, gradient in zip(places, grads, strict=True)
      if place in self._kernel_at and gradient is not None
    }
    self._train(grads, variables, present)
    replicas.update(self._iterations, lambda count: count.assign_add(1))

  def _train(
    self,
    grads: Sequence[Any],
    variables: list[Variable],
    present: Mapping[str, Any],
  ) -> None:
    """Hook: one iteration, where replicas are merged if they can be.

    Args:
      grads: gradients or None, of all replicas.
      variables: their variables.
      present: {path: gradient} of the sparse variables that have one.
    """
    self._step(grads, variables, present)

  def _step(
    self,
    grads: Sequence[Any],
    variables: list[Variable],
    present: Mapping[str, Any],
  ) -> None:
    """A gradient step of the inner optimizer with masked gradients."""
    del present
    whole = self._passes_whole_gradients()

    def step(gradients: Sequence[Any]) -> None:
      self.inner_optimizer.apply(
        [
          gradient
          if gradient is None
          else self._masked(gradient, variable, whole)
          for gradient, variable in zip(gradients, variables, strict=True)
        ],
        variables,
      )

    replicas.on_replicas(step, list(grads))
    self._clear()

  def _passes_whole_gradients(self) -> Tensor | None:
    """Hook: whether this call passes gradients on without masking them.

    Returns:
      A bool scalar; None for never.
    """
    return None

  def _masked(
    self, gradient: Any, variable: Variable, whole: Tensor | None
  ) -> Any:
    kernel = self._kernel_at.get(self._get_variable_index(variable))
    if kernel is None:
      # A tensor of this graph, or the branch of a condition could not be
      # differentiated, which TensorFlow wants of every sum over replicas.
      return tf.identity(gradient)
    gradient = tf.convert_to_tensor(gradient)
    mask = tf.convert_to_tensor(kernel.mask)
    if whole is not None:
      mask |= whole
    return tf.where(mask, gradient, tf.zeros([], gradient.dtype))

  def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
    """Lets the inner optimizer write its averages, and masks them.

    Args:
      var_list: the trainable variables of the model.
    """
    self.inner_optimizer.finalize_variable_values(var_list)
    with self._variable_scope():
      self._clear()
