# SPDX-License-Identifier: Apache-2.0
"""Code that runs inside a replica of `tf.distribute` or across all of them.

A strategy that merges its replicas (`MirroredStrategy` on CPUs) can choose
between two programs only in cross-replica context, others in each replica.
These functions do the same in both, and without a strategy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from rigl.types import Tensor


def variable_scope(strategy: tf.distribute.Strategy) -> contextlib.ExitStack:
  """A context where variables are made eagerly, on all devices.

  Args:
    strategy: the strategy of an optimizer, which one that is active overrides.
  """
  if tf.distribute.has_strategy():
    strategy = tf.distribute.get_strategy()
  stack = contextlib.ExitStack()
  stack.enter_context(tf.init_scope())
  if strategy is not _DEFAULT_STRATEGY:
    stack.enter_context(strategy.scope())
  return stack


def merge(function: Callable[..., None], *arguments: Any) -> None:
  """Calls `function` where it may branch and assign variables.

  Args:
    function: called with `arguments`; in cross-replica context they hold the
      values of all replicas.
    *arguments: nested tensors and None; called in replica context.
  """
  tf.__internal__.distribute.interim.maybe_merge_call(
    lambda _, *merged: function(*merged),
    tf.distribute.get_strategy(),
    *arguments,
  )


def on_replicas(function: Callable[..., Any], *arguments: Any) -> Any:
  """Calls `function` in every replica, or in this one."""
  if not tf.distribute.in_cross_replica_context():
    return function(*arguments)
  extended = tf.distribute.get_strategy().extended
  return extended.call_for_each_replica(function, args=arguments)


def summed(values: Sequence[Any]) -> list[Tensor]:
  """The sum over replicas of each value; all replicas get the same."""
  total = tf.distribute.ReduceOp.SUM
  strategy = tf.distribute.get_strategy()
  if tf.distribute.in_cross_replica_context():
    return [strategy.reduce(total, value, axis=None) for value in values]
  if strategy.num_replicas_in_sync == 1 or not values:
    return list(values)
  context = tf.distribute.get_replica_context()
  return list(context.all_reduce(total, list(values)))


def assign(variable: Any, value: Tensor) -> None:
  """Assigns a value to all copies of a Keras or TensorFlow variable."""
  update(variable, lambda copy, new: copy.assign(new), value)


def update(
  variable: Any, function: Callable[..., Any], *arguments: Any
) -> None:
  """Calls `function(copy, *arguments)` for every copy of a variable.

  Args:
    variable: a Keras or TensorFlow variable.
    function: assigns to the copy.
    *arguments: tensors or variables, whose copies on the same device are
      passed.
  """
  tf.distribute.get_strategy().extended.update(
    native(variable),
    function,
    args=tuple(native(each) for each in arguments),
    group=False,
  )


def native(variable: Any) -> Any:
  """The TensorFlow variable of a Keras variable; others unchanged."""
  if isinstance(variable, tf.Variable) or not hasattr(variable, "path"):
    return variable
  return variable.value


_DEFAULT_STRATEGY = tf.distribute.get_strategy()
