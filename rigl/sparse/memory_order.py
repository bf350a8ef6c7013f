# SPDX-License-Identifier: Apache-2.0
"""Transposes that XLA makes in memory.

XLA may skip a transpose and read its operand in another order instead. The
gathers of `block_product` would then copy rows of 128 numbers in place of whole
blocks, which made a layer two to three times slower on an H100.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.ops import control_flow_util

from rigl.types import Tensor


def features_first(x: Tensor) -> Tensor:
  """Transposes [tokens, features] to [features, tokens], also in memory."""

  @tf.custom_gradient
  def transpose(x: Tensor) -> Any:
    return _pinned(tf.transpose(x)), lambda y: tf.transpose(_pinned(y))

  return transpose(x)


def tokens_first(x: Tensor) -> Tensor:
  """Transposes [features, tokens] to [tokens, features], also in memory."""

  @tf.custom_gradient
  def transpose(x: Tensor) -> Any:
    return tf.transpose(_pinned(x)), lambda y: _pinned(tf.transpose(y))

  return transpose(x)


def _pinned(x: Tensor) -> Tensor:
  """A matrix that XLA keeps in memory row by row.

  The only order of a vector is its own; the barrier keeps XLA from joining both
  reshapes. Outside of XLA a tensor always has its own order.
  """
  if tf.executing_eagerly() or not control_flow_util.GraphOrParentsInXlaContext(
    tf.compat.v1.get_default_graph()
  ):
    return x
  (flat,) = gen_xla_ops.xla_optimization_barrier([tf.reshape(x, [-1])])
  return tf.reshape(flat, tf.shape(x))
