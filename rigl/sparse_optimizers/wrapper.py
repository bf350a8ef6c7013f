# SPDX-License-Identifier: Apache-2.0
"""Wrapper of an optimizer: slots, and state variables of its own.

Masks, steps and schedules belong to the classes that derive from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rigl.docstrings import describe_inherited_arguments
from rigl.sparse_optimizers.inner import InnerOptimizer, Slot
from rigl.sparse_optimizers.kernels import as_variable, unwrapped
from rigl.sparse_optimizers.sparse_layer import bare_name, slot_names
from rigl.types import Variable


class WrappingOptimizer(tf.compat.v1.train.Optimizer):
  """Wraps an optimizer and names the variables of both for checkpoints.

  Args:
    optimizer: the `tf.compat.v1.train` optimizer that makes the gradient
      steps, such as `MomentumOptimizer`. In a TPU computation of several
      shards, a `CrossShardOptimizer` around it.
    use_locking: unused; part of the interface of `tf.compat.v1.train`.
    name: name of this optimizer. None: the name of the class.

  Raises:
    ValueError: if `optimizer` is not such an optimizer.
  """

  def __init_subclass__(cls, **options: Any) -> None:
    super().__init_subclass__(**options)
    describe_inherited_arguments(cls)

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    use_locking: bool,
    name: str | None,
  ) -> None:
    if not isinstance(use_locking, (bool, int)):
      raise ValueError(f"`use_locking` must be a bool, got {use_locking!r}.")
    if name is not None and not isinstance(name, str):
      raise ValueError(f"`name` must be a str or None, got {name!r}.")
    super().__init__(bool(use_locking), name or type(self).__name__)
    inner = InnerOptimizer(optimizer)
    for part in inner.parts:
      if isinstance(part, WrappingOptimizer):
        raise ValueError(
          "`optimizer` must not be or hold a sparse optimizer, got "
          f"{type(part).__name__}."
        )
    # A CrossShardOptimizer sums gradients over the shards only when it applies
    # them, too late for masks that are derived from them. So
    # `SparseOptimizer.reduce_gradients` sums them, and the optimizer inside,
    # which does not sum again, makes the steps. The loss is still divided by
    # the number of shards, so that the sum is a mean, by its
    # `compute_gradients`.
    self._computing = optimizer
    self._sums_shards = isinstance(
      optimizer, tf.compat.v1.tpu.CrossShardOptimizer
    )
    if self._sums_shards:
      optimizer = _inside(optimizer)
      inner = InnerOptimizer(optimizer)
    self._optimizer, self._inner = optimizer, inner
    for i, part in enumerate(inner.to_track()):
      self._track_trackable(part, f"optimizer_{i}" if i else "optimizer")
    self._own_variables: list[Variable] = []

  def state(self) -> dict[str, Variable]:
    """All variables of the optimizer by name: masks, slots and counters.

    The names are those of the published checkpoints, such as `layer1/mask`,
    `layer1/weights/Momentum` and `last_mask_update_step`.
    """
    inner = self._inner.variables()
    named = dict(zip(slot_names(inner), inner, strict=True))
    return named | {bare_name(v): v for v in self._own_variables}

  def variables(self) -> list[Variable]:
    """All variables: those of the wrapped optimizer, then its own."""
    return [*self._inner.variables(), *self._own_variables]

  def create_slots(self, variables: Sequence[Variable]) -> None:
    """Creates the slots of the wrapped optimizer before the first step."""
    with tf.init_scope():
      self._inner.create_slots([as_variable(v) for v in variables])

  def compute_gradients(self, *args: Any, **kwargs: Any) -> list[Any]:
    """Computes gradients as the wrapped optimizer does."""
    loss, *rest = args or (kwargs.pop("loss"),)
    if rest and rest[0] is not None:
      rest[0] = unwrapped(rest[0])
    elif kwargs.get("var_list") is not None:
      kwargs["var_list"] = unwrapped(kwargs["var_list"])
    return self._computing.compute_gradients(loss, *rest, **kwargs)

  def get_slot(self, var: Variable, name: str) -> Variable | None:
    """Returns a slot of the wrapped optimizer.

    Args:
      var: the variable, of TensorFlow or Keras.
      name: name of the slot, such as `momentum`.

    Returns:
      The slot; None if there is none.
    """
    for part in self._inner.parts:
      slot = part.get_slot(as_variable(var), name)
      if slot is not None:
        return slot
    return None

  def get_slot_names(self) -> list[str]:
    """Returns the slot names of the wrapped optimizer."""
    names = [
      name for part in self._inner.parts for name in part.get_slot_names()
    ]
    return list(dict.fromkeys(names))

  def __dir__(self) -> list[str]:
    # tf.train.Checkpoint takes an object with this method for the owner of
    # slots. The wrapped optimizer must be the only one, because Checkpoint
    # refuses to write slots twice.
    return [name for name in super().__dir__() if name != "get_slot_names"]

  def _new_state(self, value: Any, name: str) -> Variable:
    """Creates a variable that belongs to the state of the optimizer."""
    # Its name is that of checkpoints, whatever name scope the caller is in.
    with tf.name_scope(""):
      variable = tf.Variable(
        value,
        trainable=False,
        name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
      )
    self._own_variables.append(variable)
    # A checkpoint that was read before sets the value now.
    self._track_trackable(variable, name.replace("/", "."), overwrite=True)
    return variable

  def _slots_of(self, kernel: Variable) -> list[Slot]:
    """The slots of a kernel, each with its initial value."""
    return self._inner.slots_of(kernel)


def _inside(
  optimizer: tf.compat.v1.tpu.CrossShardOptimizer,
) -> tf.compat.v1.train.Optimizer:
  """The optimizer inside a CrossShardOptimizer, a private attribute."""
  if optimizer._group_assignment is not None:
    raise ValueError(
      "`optimizer`: a CrossShardOptimizer must have no `group_assignment`, "
      "because all shards need the same masks, got "
      f"{optimizer._group_assignment}."
    )
  return optimizer._opt
