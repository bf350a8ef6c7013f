"""The compiled programs of a run: many steps, a mask update, an evaluation.

Which program runs when is decided on the host by the loop. The examples are
in memory; see `stream_programs` for those that are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rigl.data.array_source import ArraySource
from rigl.distribution import replicas
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.base_programs import (
  CHANGED,
  BasePrograms,
  Batch,
  Program,
  Task,
  add_real,
  int64,
)
from rigl.types import Tensor, Variable

_PADDING = -1


class Programs(BasePrograms):
  """Compiles what a run does on the device.

  Args:
    task: what is trained.
    optimizer: the sparse optimizer, with its masks.
    train: the training examples.
    test: the examples to evaluate on; all of them count, whatever the batch
      size.
    global_step: int64 variable that gradient steps advance.
    eval_batch_size: examples a batch of the evaluation.
    jit_compile: see the base class.
    averages: see the base class.
  """

  def __init__(
    self,
    task: Task,
    optimizer: SparseOptimizer,
    train: ArraySource,
    test: ArraySource,
    global_step: Variable,
    eval_batch_size: int = 1000,
    jit_compile: bool = True,
    averages: Sequence[Variable] = (),
  ) -> None:
    super().__init__(
      task, optimizer, global_step, jit_compile, averages=averages
    )
    self._train, self._test = train, test
    self._replicas.share(train.batch_size, "batch_size")
    self._eval_order = tf.constant(
      _padded_order(test.num_examples, eval_batch_size, self._replicas.count)
    )
    self._train_steps = Program(self._train_steps_graph, self._jit_whole)
    self._update_masks = Program(self._update_masks_graph, self._jit_whole)
    self._evaluate = Program(self._evaluate_graph, self._jit_whole)

  def train_steps(self, iteration: int, count: int) -> dict[str, float]:
    """Makes gradient steps; they must lie in one epoch.

    Args:
      iteration: number of iterations before.
      count: how many steps.

    Returns:
      Sums of the batch means of the metrics over the steps.
    """
    order = self._train.order(iteration)
    sums = self._train_steps(order, int64(iteration), int64(count))
    return {name: float(value) for name, value in sums.items()}

  def steps_left(self, iteration: int) -> int:
    """The most steps that one call can make from this iteration on."""
    return self._train.steps_left(iteration)

  def update_masks(self, iteration: int) -> float:
    """Updates the masks, with the batch of this iteration if one is needed.

    Returns:
      The share of all connections, active or not, whose mask changed.
    """
    order = self._train.order(iteration)
    return float(self._update_masks(order, int64(iteration))[CHANGED])

  def evaluate(self) -> dict[str, float]:
    """The means of the metrics over all test examples."""
    self.synchronize()
    means = self._evaluate(self._eval_order)
    return {name: float(value) for name, value in means.items()}

  def exportable(self) -> dict[str, tuple[Program, dict[str, Tensor]]]:
    """The programs by kind, each with arguments to compile it for."""
    order, number = self._train.order(0), int64(0)
    return {
      "train": (
        self._train_steps,
        {"order": order, "iteration": number, "count": number},
      ),
      "update": (self._update_masks, {"order": order, "iteration": number}),
      "evaluate": (self._evaluate, {"eval_order": self._eval_order}),
      "inspect": (self._inspect, {}),
    }

  def _train_steps_graph(
    self, order: Tensor, first: Tensor, count: Tensor
  ) -> dict[str, Tensor]:
    def step(i: Tensor, sums: dict[str, Tensor]) -> tuple[Tensor, dict]:
      metrics = self._replicas.run(self._step_at, (order, i))
      return i + 1, {name: sums[name] + metrics[name] for name in sums}

    end = first + count
    start = (first, self._no_sums())
    _, sums = tf.while_loop(lambda i, _: i < end, step, start)
    return sums

  def _update_masks_graph(
    self, order: Tensor, iteration: Tensor
  ) -> dict[str, Tensor]:
    changed = self._replicas.run(self._update_at, (order, iteration))
    return {CHANGED: changed}

  def _evaluate_graph(self, order: Tensor) -> dict[str, Tensor]:
    return self._replicas.run(self._evaluate_share, (order,))

  def _step_at(self, order: Tensor, iteration: Tensor) -> dict[str, Tensor]:
    """One step of one replica."""
    return self._step(self._batch(order, iteration), iteration)

  def _update_at(self, order: Tensor, iteration: Tensor) -> Tensor:
    """A mask update on one replica."""
    batch = None
    if self._optimizer.update_is_iteration:
      batch = self._batch(order, iteration)
    return self._update(batch, iteration)

  def _evaluate_share(self, order: Tensor) -> dict[str, Tensor]:
    """The evaluation, of which each replica does its share."""

    def add_batch(i: Tensor, sums: dict[str, Tensor]) -> tuple[Tensor, dict]:
      numbers = replicas.local_shard(tf.gather(order, i))
      real = numbers != _PADDING
      batch = self._test.batch(tf.maximum(numbers, 0))
      return i + 1, add_real(sums, self._task.metrics(batch), real)

    zeros = {name: tf.constant(0.0) for name in self._task.eval_metric_names}
    count = self._eval_order.shape[0]
    _, sums = tf.while_loop(lambda i, _: i < count, add_batch, (0, zeros))
    sums = replicas.all_reduce_sum(sums)
    return {name: s / self._test.num_examples for name, s in sums.items()}

  def _batch(self, order: Tensor, iteration: Tensor) -> Batch:
    numbers = self._train.numbers(order, iteration)
    return self._train.batch(replicas.local_shard(numbers))


def _padded_order(
  num_examples: int, batch_size: int, num_replicas: int
) -> np.ndarray:
  """All example numbers in rows; what is left of the rows is -1."""
  batch_size = min(batch_size, num_examples)
  batch_size = -(-batch_size // num_replicas) * num_replicas
  num_batches = -(-num_examples // batch_size)
  order = np.full(num_batches * batch_size, _PADDING, np.int32)
  order[:num_examples] = np.arange(num_examples)
  return order.reshape(num_batches, batch_size)
