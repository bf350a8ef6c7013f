# SPDX-License-Identifier: Apache-2.0
"""Replicas of one XLA program: their number, and sums over them.

A client of XLA runs one program on several devices. Its replicas are told apart
by an operation of XLA, and add up tensors by another. This is independent of
`tf.distribute`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from rigl.types import Tensor

_counts = [1]


@contextlib.contextmanager
def tracing_for(count: int) -> Iterator[None]:
  """In this context functions are traced as programs of several replicas.

  Args:
    count: number of replicas.
  """
  _counts.append(count)
  try:
    yield
  finally:
    _counts.pop()


def count() -> int:
  """The number of replicas of the program that is traced; 1 outside."""
  return _counts[-1]


def number() -> Tensor:
  """The number of this replica, int32 scalar from 0."""
  return tf.cast(tf.raw_ops.XlaReplicaId(), tf.int32)


def total(value: Tensor) -> Tensor:
  """The sum of a tensor over all replicas, with the same bits on each."""
  return tf.raw_ops.XlaAllReduce(
    input=value,
    group_assignment=[list(range(count()))],
    reduce_op="Add",
    mode="CrossReplica",
  )
