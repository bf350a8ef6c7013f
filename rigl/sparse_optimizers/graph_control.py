# SPDX-License-Identifier: Apache-2.0
"""Control flow that works the same in eager mode and in graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from rigl.distribution.replicas import num_replicas
from rigl.types import Tensor


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
  if num_replicas() > 1:
    raise RuntimeError(
      "apply_gradients cannot choose whether masks are updated inside a "
      "replica of tf.distribute. Choose on the host by "
      "steps_to_update and call apply_masked_gradients or update_masks."
    )
  result = tf.cond(
    condition, lambda: _done(if_true), lambda: _done(if_false or tf.no_op)
  )
  return tf.group(result)


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
