# SPDX-License-Identifier: Apache-2.0
"""Replicas of one XLA program: their number, and sums over them.

A client of XLA runs one program on several devices. Its replicas are told apart
by an operation of XLA, and add up tensors by another. This is independent of
`tf.distribute`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

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
  return _operations().xla_replica_id()


def totals(values: Sequence[Tensor]) -> list[Tensor]:
  """Sums of tensors over all replicas, with the same bits on each.

  The replicas exchange all tensors of a dtype at once, end to end. Compilers
  join single exchanges only up to sizes of their own.

  Args:
    values: tensors of static shapes.
  """
  found: dict[int, Tensor] = {}
  for dtype in dict.fromkeys(value.dtype for value in values):
    numbers = [i for i, value in enumerate(values) if value.dtype == dtype]
    flat = [tf.reshape(values[i], [-1]) for i in numbers]
    sizes = [part.shape[0] for part in flat]
    parts = tf.split(total(tf.concat(flat, 0)), sizes)
    for i, part in zip(numbers, parts, strict=True):
      found[i] = tf.reshape(part, values[i].shape)
  return [found[i] for i in range(len(values))]


def total(value: Tensor) -> Tensor:
  """The sum of a tensor over all replicas, with the same bits on each."""
  return _operations().xla_all_reduce(
    input=value,
    group_assignment=[list(range(count()))],
    reduce_op="Add",
    mode="CrossReplica",
  )


def _operations() -> Any:
  """TensorFlow's wrappers of operations of XLA, which have no public name."""
  from tensorflow.compiler.tf2xla.ops import gen_xla_ops

  return gen_xla_ops
