"""The compiled programs of a run whose examples are a stream.

XLA compiles the single step, around which TensorFlow's own loop takes the
batches out of the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from rigl.data.stream_source import (
  Share,
  StreamSource,
  explained,
  pipelines,
  zeros_like_batch,
)
from rigl.distribution.replicas import Replicas, all_reduce_sum
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

_COUNT = "count"


class StreamEvaluation:
  """Evaluates a task on batches that end.

  Args:
    task: what is evaluated.
    make: makes the batches of one host: what the task takes and `valid`,
      float32 [batch], 0 for what only fills the last ones. All hosts must
      make equally many.
    jit_compile: whether XLA compiles a batch's program.
    kept: variables that are to be afterwards as they were before.
    explain: as of `StreamSource`, of all of the data.
  """

  def __init__(
    self,
    task: Task,
    make: Callable[[Share], tf.data.Dataset],
    jit_compile: bool = True,
    kept: Sequence[Variable] = (),
    explain: Callable[[], str | None] = lambda: None,
  ) -> None:
    self._task, self._make, self._kept = task, make, kept
    self._explain, self._replicas = explain, Replicas()
    distributed = self._replicas.is_distributed
    self._add = Program(self._add_graph, jit_compile and not distributed)

  def __call__(self) -> dict[str, float]:
    """The means of the metrics over all examples.

    Raises:
      DataError: if the data is damaged.
      ValueError: if there are no examples.
    """
    before = [variable.read_value() for variable in self._kept]
    names = [*self._task.eval_metric_names, _COUNT]
    sums = {name: tf.constant(0.0) for name in names}
    with explained(self._explain):
      for batch in pipelines(self._replicas, self._make):
        sums = self._add(sums, batch)
    for variable, value in zip(self._kept, before, strict=True):
      variable.assign(value)
    found = {name: float(value) for name, value in sums.items()}
    count = found.pop(_COUNT)
    if not count:
      raise ValueError("There are no images to evaluate on.")
    return {name: value / count for name, value in found.items()}

  def on_device(self) -> tuple[Program, dict[str, Any]]:
    """What a device computes of a batch, with arguments to compile it for."""
    names = [*self._task.eval_metric_names, _COUNT]
    sums = {name: tf.constant(0.0) for name in names}
    batch = zeros_like_batch(self._make(Share()))
    return self._add, {"sums": sums, "batch": batch}

  def _add_graph(self, sums: dict[str, Tensor], batch: Any) -> dict:
    found = self._replicas.run(self._sums_of, (batch,))
    return {name: total + found[name] for name, total in sums.items()}

  def _sums_of(self, batch: Batch) -> dict[str, Tensor]:
    """The sums over the batches of all replicas."""
    metrics = self._task.metrics(batch)
    metrics[_COUNT] = tf.ones_like(batch["valid"])
    zeros = {name: tf.constant(0.0) for name in metrics}
    return all_reduce_sum(add_real(zeros, metrics, batch["valid"] > 0))


class StreamPrograms(BasePrograms):
  """Compiles what a run does on the device.

  Iterations have to come in their order, because each takes the next batch.

  Args:
    task: what is trained.
    optimizer: the sparse optimizer, with its masks.
    train: the training examples.
    evaluation: evaluates the task.
    global_step: int64 variable that gradient steps advance.
    steps_per_call: the most steps of one call.
    jit_compile: see the base class.
    averages: see the base class.
  """

  def __init__(
    self,
    task: Task,
    optimizer: SparseOptimizer,
    train: StreamSource,
    evaluation: StreamEvaluation,
    global_step: Variable,
    steps_per_call: int = 1000,
    jit_compile: bool = True,
    averages: Sequence[Variable] = (),
  ) -> None:
    super().__init__(task, optimizer, global_step, jit_compile, True, averages)
    self._train, self._evaluation = train, evaluation
    self._steps_per_call = steps_per_call
    self._make_step, self._make_update = self._step, self._update
    if self._jit_whole:
      options = dict(jit_compile=True, autograph=False)
      self._make_step = tf.function(self._step, **options)
      self._make_update = tf.function(self._update, **options)
    self._train_steps = Program(self._train_steps_graph, False)
    self._update_with_batch = Program(self._update_with_batch_graph, False)
    self._update_alone = Program(self._update_alone_graph, self._jit_whole)

  def train_steps(self, iteration: int, count: int) -> dict[str, float]:
    """See the base class.

    Raises:
      DataError: if the data is damaged.
    """
    with self._train.batches() as batches:
      sums = self._train_steps(batches, int64(iteration), int64(count))
    return {name: float(value) for name, value in sums.items()}

  def steps_left(self, iteration: int) -> int:
    """See the base class."""
    del iteration
    return self._steps_per_call

  def update_masks(self, iteration: int) -> float:
    """See the base class.

    Raises:
      DataError: if the data is damaged.
    """
    if not self._optimizer.update_is_iteration:
      return float(self._update_alone(int64(iteration))[CHANGED])
    with self._train.batches() as batches:
      return float(self._update_with_batch(batches, int64(iteration))[CHANGED])

  def evaluate(self) -> dict[str, float]:
    """See the base class."""
    self.synchronize()
    return self._evaluation()

  def on_device(self) -> dict[str, tuple[Program, dict[str, Any]]]:
    """See the base class: the programs of one batch."""
    number, batch = {"iteration": int64(0)}, {"batch": self._train.zeros()}
    with_batch = self._optimizer.update_is_iteration
    update = self._update_one if with_batch else self._update_alone_graph
    return {
      "train": (Program(self._step, True), {**batch, **number}),
      "update": (
        Program(update, True),
        {**batch, **number} if with_batch else number,
      ),
      "evaluate": self._evaluation.on_device(),
    }

  def _train_steps_graph(
    self, batches: Any, first: Tensor, count: Tensor
  ) -> dict[str, Tensor]:
    def step(i: Tensor, sums: dict[str, Tensor]) -> tuple[Tensor, dict]:
      metrics = self._replicas.run(self._make_step, (self._next(batches), i))
      return i + 1, {name: sums[name] + metrics[name] for name in sums}

    end = first + count
    start = (first, self._no_sums())
    _, sums = tf.while_loop(lambda i, _: i < end, step, start)
    return sums

  def _update_with_batch_graph(
    self, batches: Any, iteration: Tensor
  ) -> dict[str, Tensor]:
    arguments = (self._next(batches), iteration)
    return {CHANGED: self._replicas.run(self._make_update, arguments)}

  def _update_one(self, batch: Batch, iteration: Tensor) -> dict[str, Tensor]:
    return {CHANGED: self._update(batch, iteration)}

  def _update_alone_graph(self, iteration: Tensor) -> dict[str, Tensor]:
    return {CHANGED: self._replicas.run(self._update, (None, iteration))}

  def _next(self, batches: Any) -> Any:
    batch = next(batches)
    self._train.note(batch)
    return batch
