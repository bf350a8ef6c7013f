# SPDX-License-Identifier: Apache-2.0
"""Control flow that works the same in eager mode and in graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.distribution.replicas import num_in_strategy
from rigl.types import Tensor, Variable


def branch(
  condition: Tensor,
  if_true: Callable[[], Any],
  if_false: Callable[[], Any] | None = None,
) -> tf.Operation | None:
  """Runs one of two functions, chosen on the host or, in a graph, by tf.cond.

  Args:
    condition: bool scalar.
    if_true: makes operations.
    if_false: makes operations. None: does nothing.

  Returns:
    In a graph, the operation that runs the chosen one.

  Raises:
    RuntimeError: in a graph under `tf.distribute` with several replicas, where
      variables cannot be assigned in a branch.
  """
  if tf.executing_eagerly():
    chosen = if_true if bool(condition) else if_false
    return chosen() if chosen else None
  if num_in_strategy() > 1:
    raise RuntimeError(
      "apply_gradients cannot choose whether masks are updated inside a "
      "replica of tf.distribute. Choose on the host by "
      "steps_to_update and call apply_masked_gradients or update_masks."
    )
  functions = (if_true, if_false or tf.no_op)
  if not _is_in_replica():
    return tf.group(tf.cond(condition, *(partial(_done, f) for f in functions)))

  # A strategy leaves its replica to update variables, which it cannot do
  # inside a branch. So it leaves before the branch, and each branch is a
  # replica of its own.
  def choose(strategy: tf.distribute.Strategy) -> Tensor:
    return tf.cond(
      condition,
      *(partial(strategy.run, partial(_done, each)) for each in functions),
    )

  replica = tf.distribute.get_replica_context()
  return tf.group(replica.merge_call(choose))


@contextlib.contextmanager
def inside_replicas() -> Iterator[None]:
  """Says how to call an optimizer under `tf.distribute` if it cannot run.

  Raises:
    RuntimeError: outside of the replicas, or in a function of its own that is
      traced inside of a replica.
  """
  if tf.distribute.has_strategy() and tf.distribute.in_cross_replica_context():
    raise RuntimeError(
      "Under tf.distribute a step belongs into a replica: call a function that "
      "applies the gradients by strategy.run(function)."
    )
  try:
    yield
  except RuntimeError as error:
    if "merge_call" not in str(error):
      raise
    raise RuntimeError(
      "Gradients cannot be applied in a tf.function or tf.cond that begins "
      "inside a replica of tf.distribute: call strategy.run inside of the "
      "tf.function, and choose on the host."
    ) from error


def outside_replicas(function: Callable[[], None]) -> None:
  """Calls a function once, where an assignment reaches all replicas.

  Args:
    function: it changes variables; all replicas must ask for it.
  """
  if _is_in_replica():
    replica = tf.distribute.get_replica_context()
    replica.merge_call(lambda _: function())
  else:
    function()


def read_on_host(variable: Variable) -> np.ndarray:
  """The value of a variable, in eager mode.

  Raises:
    RuntimeError: in a graph.
  """
  if not tf.executing_eagerly():
    raise RuntimeError(
      f"{variable.name} can only be read in eager mode. In a graph "
      "apply_gradients decides by itself, and session.run reads variables."
    )
  return np.asarray(tf.convert_to_tensor(variable))


def is_session_graph() -> bool:
  """Whether operations are built for a session, with no eager mode outside.

  Raises:
    RuntimeError: inside a `tf.function`, or in a replica of `tf.distribute`.
  """
  if _is_in_replica():
    raise RuntimeError(
      "Create masks in strategy.scope(), not in a function of strategy.run()."
    )
  if tf.executing_eagerly():
    return False
  with tf.init_scope():
    if tf.executing_eagerly():
      raise RuntimeError("Create masks outside of tf.function, before it.")
  if not isinstance(tf.TensorShape([1])[0], int):
    raise RuntimeError(
      "Sparse optimizers need shapes of TensorFlow 2: call "
      "tf.compat.v1.enable_v2_tensorshape() after disable_v2_behavior()."
    )
  return True


def _is_in_replica() -> bool:
  return (
    tf.distribute.has_strategy()
    and not tf.distribute.in_cross_replica_context()
  )


def _done(make: Callable[[], Any]) -> Tensor:
  with after(make()):
    return tf.constant(True)


def after(*operations: Any) -> contextlib.AbstractContextManager:
  """A context whose operations run after these; eager mode keeps order."""
  if tf.executing_eagerly():
    return contextlib.nullcontext()
  return tf.control_dependencies([op for op in operations if op is not None])


def group(operations: Iterable[Any]) -> tf.Operation | None:
  """Groups operations in a graph; None in eager mode, where they have run."""
  return None if tf.executing_eagerly() else tf.group(*operations)
