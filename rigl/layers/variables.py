# SPDX-License-Identifier: Apache-2.0
"""Variables of layers: trainable ones and moving averages."""

from __future__ import annotations

import tensorflow as tf

from rigl.types import Tensor, Variable


def make_variable(value: Tensor, name: str) -> Variable:
  """A trainable variable that sparse optimizers can set on every replica.

  Args:
    value: its initial value.
    name: its name in checkpoints.
  """
  return tf.Variable(
    value, name=name, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
  )


def make_average(value: Tensor, name: str) -> Variable:
  """A variable that each replica updates by itself.

  Reading it outside of the replicas gives their mean.

  Args:
    value: its initial value.
    name: its name in checkpoints.
  """
  return tf.Variable(
    value,
    name=name,
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.MEAN,
  )
