# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a task over all test examples, in memory or as a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from rigl.data.array_source import ArraySource
from rigl.data.stream_source import (
  InputShard,
  diagnosed,
  pipelines,
  zeros_like_batch,
)
from rigl.distribution import replicas
from rigl.distribution.replicas import Replicas
from rigl.runners.program import Lowerable, Program, ProgramMaker
from rigl.training.task import Task
from rigl.types import Batch, Metrics, Tensor, Variable

_PADDING = -1
_COUNT = "count"


def nothing() -> None:
  """Does nothing: what happens before a batch by default."""


class Evaluation(Protocol):
  """Evaluates a task."""

  def __call__(self, before_batch: Callable[[], None] = nothing) -> Metrics:
    """Returns the means of the metrics over all examples.

    Args:
      before_batch: called before each batch; what it raises ends the
        evaluation.
    """

  def lowerable(self) -> Lowerable:
    """The program of a device, with example arguments."""


class ArrayEvaluation:
  """Evaluates a task on examples in memory, one program call per batch.

  Attributes:
    source: the argument.

  Args:
    task: the task to evaluate.
    source: the examples; all of them count, whatever the batch size.
    replicas: the devices that evaluate.
    batch_size: examples per batch.
    jit_compile: whether XLA compiles the program, on a single device.
    make_program: makes the program.
  """

  def __init__(
    self,
    task: Task,
    source: ArraySource,
    replicas: Replicas,
    batch_size: int = 1000,
    jit_compile: bool = True,
    make_program: ProgramMaker = Program,
  ) -> None:
    self._task, self._replicas = task, replicas
    self.source = source
    self._order = tf.constant(
      _padded_order(source.num_examples, batch_size, replicas.count)
    )
    self._jit_compile = jit_compile and not replicas.is_distributed
    self._make_program = make_program
    self._program = make_program(self._add_batch, self._jit_compile)

  def __call__(self, before_batch: Callable[[], None] = nothing) -> Metrics:
    """Returns the means of the metrics over all examples.

    Args:
      before_batch: called before each batch; what it raises ends the
        evaluation.
    """
    sums: dict[str, Any] = self._zeros()
    for i in range(self._order.shape[0]):
      before_batch()
      sums = self._program(self._order, tf.constant(i), sums)
    sums = {name: tf.constant(np.asarray(v)) for name, v in sums.items()}
    return {name: float(value) for name, value in self._means(sums).items()}

  def lowerable(self) -> Lowerable:
    """A program of the whole evaluation, with its argument."""
    program = self._make_program(self._whole_graph, self._jit_compile)
    return program, {"eval_order": self._order}

  def _zeros(self) -> dict[str, Tensor]:
    return {name: tf.constant(0.0) for name in self._task.eval_metric_names}

  def _means(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: s / self.source.num_examples for name, s in sums.items()}

  def _whole_graph(self, order: Tensor) -> dict[str, Tensor]:
    count = self._order.shape[0]
    _, sums = tf.while_loop(
      lambda i, _: i < count,
      lambda i, sums: (i + 1, self._add_batch(order, i, sums)),
      (0, self._zeros()),
    )
    return self._means(sums)

  def _add_batch(
    self, order: Tensor, i: Tensor, sums: dict[str, Tensor]
  ) -> dict[str, Tensor]:
    """Adds the metrics of a batch, of which each replica does its part."""
    return self._replicas.run(self._add_share, (order, i, sums))

  def _add_share(
    self, order: Tensor, i: Tensor, sums: dict[str, Tensor]
  ) -> dict[str, Tensor]:
    numbers = replicas.local_shard(tf.gather(order, i))
    real = numbers != _PADDING
    batch = self.source.batch(tf.maximum(numbers, 0))
    metrics = self._task.metrics(batch)
    if replicas.num_replicas() == 1:
      return _add_real(sums, metrics, real)
    zeros = {name: tf.constant(0.0) for name in sums}
    found = replicas.all_reduce_sum(_add_real(zeros, metrics, real))
    return {name: total + found[name] for name, total in sums.items()}


class StreamEvaluation:
  """Evaluates a task on a stream of batches, one program call per batch.

  Args:
    task: the task to evaluate.
    make: makes the batches of one host: what the task takes and `valid`,
      float32 [batch], 0 for padding. All hosts must make equally many.
    replicas: the devices that evaluate.
    jit_compile: whether XLA compiles a batch's program, on a single device.
    preserve: variables that get their values back afterwards.
    diagnose: names what is wrong with the data after TensorFlow raised an
      error; None if nothing is.
    make_program: makes the program of a batch.
  """

  def __init__(
    self,
    task: Task,
    make: Callable[[InputShard], tf.data.Dataset],
    replicas: Replicas,
    jit_compile: bool = True,
    preserve: Sequence[Variable] = (),
    diagnose: Callable[[], str | None] = lambda: None,
    make_program: ProgramMaker = Program,
  ) -> None:
    self._task, self._make, self._preserve = task, make, preserve
    self._diagnose, self._replicas = diagnose, replicas
    jit_compile = jit_compile and not replicas.is_distributed
    self._program = make_program(self._graph, jit_compile)

  def __call__(self, before_batch: Callable[[], None] = nothing) -> Metrics:
    """Returns the means of the metrics over all examples.

    Args:
      before_batch: called before each batch; what it raises ends the
        evaluation.

    Raises:
      DataError: if the data is damaged.
      ValueError: if there are no examples.
    """
    before = [variable.read_value() for variable in self._preserve]
    sums: dict[str, Any] = self._zeros()
    try:
      with diagnosed(self._diagnose):
        for batch in pipelines(self._replicas, self._make):
          before_batch()
          sums = self._program(sums, batch)
    finally:
      for variable, value in zip(self._preserve, before, strict=True):
        variable.assign(value)
    totals = {name: float(value) for name, value in sums.items()}
    count = totals.pop(_COUNT)
    if not count:
      raise ValueError("There are no examples to evaluate on.")
    return {name: value / count for name, value in totals.items()}

  def lowerable(self) -> Lowerable:
    """The program of one batch, with example arguments."""
    shard = InputShard()
    if not self._replicas.is_distributed:
      shard = InputShard(self._replicas.count, self._replicas.num_hosts)
    batch = zeros_like_batch(self._make(shard))
    return self._program, {"sums": self._zeros(), "batch": batch}

  def _zeros(self) -> dict[str, Tensor]:
    names = [*self._task.eval_metric_names, _COUNT]
    return {name: tf.constant(0.0) for name in names}

  def _graph(self, sums: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
    found = self._replicas.run(self._sums_of, (batch,))
    return {name: total + found[name] for name, total in sums.items()}

  def _sums_of(self, batch: Batch) -> dict[str, Tensor]:
    """The sums over the batches of all replicas."""
    metrics = self._task.metrics(batch)
    metrics[_COUNT] = tf.ones_like(batch["valid"])
    zeros = {name: tf.constant(0.0) for name in metrics}
    return replicas.all_reduce_sum(
      _add_real(zeros, metrics, batch["valid"] > 0)
    )


def _add_real(
  sums: dict[str, Tensor], metrics: dict[str, Tensor], real: Tensor
) -> dict[str, Tensor]:
  """Adds the metrics of the examples that are no padding.

  Args:
    sums: float32 scalars by name.
    metrics: float32 [batch] by name.
    real: bool [batch].
  """
  return {
    name: total + tf.reduce_sum(tf.where(real, metrics[name], 0.0))
    for name, total in sums.items()
  }


def _padded_order(
  num_examples: int, batch_size: int, num_replicas: int
) -> np.ndarray:
  """All example numbers in rows of a batch, padded with -1."""
  batch_size = min(batch_size, num_examples)
  batch_size = -(-batch_size // num_replicas) * num_replicas
  num_batches = -(-num_examples // batch_size)
  order = np.full(num_batches * batch_size, _PADDING, np.int32)
  order[:num_examples] = np.arange(num_examples)
  return order.reshape(num_batches, batch_size)
