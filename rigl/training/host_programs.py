"""The compiled programs of a run on a processor without XLA.

The host takes the batches and calls one program for their gradients, which
steps and mask updates share: before the first step there is half as much to
trace and to prepare as in programs that do everything, and a network whose step
takes a second notices nothing of the calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.data.stream_source import StreamSource
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.base_programs import Program, Task, int64, state_metrics
from rigl.training.stream_programs import StreamEvaluation, StreamPrograms
from rigl.types import Tensor, Variable


class HostPrograms(StreamPrograms):
  """What a run computes in TensorFlow's own operations, on one device.

  Args:
    task: what is trained.
    optimizer: the sparse optimizer, with its masks.
    train: the training examples.
    evaluation: evaluates the task.
    global_step: int64 variable that gradient steps advance.
    steps_per_call: the most steps of one call.
  """

  def __init__(
    self,
    task: Task,
    optimizer: SparseOptimizer,
    train: StreamSource,
    evaluation: StreamEvaluation,
    global_step: Variable,
    steps_per_call: int = 1000,
  ) -> None:
    super().__init__(
      task,
      optimizer,
      train,
      evaluation,
      global_step,
      steps_per_call,
      jit_compile=False,
    )
    self._own_gradients: Callable[..., Any] = tf.function(
      self._own_gradients_graph, autograph=False
    )
    self._apply_own = Program(self._apply_own_graph, False)
    # XLA would compile for half a minute before the first step.
    optimizer.use_mask_engine("numpy", os.cpu_count())

  def train_steps(self, iteration: int, count: int) -> dict[str, float]:
    """See the base class.

    Raises:
      DataError: if the data is damaged.
    """
    sums = self._no_sums()
    with self._train.batches() as batches:
      for i in range(iteration, iteration + count):
        metrics = self._apply_own(*self._next_gradients(batches, i))
        sums = {name: sums[name] + metrics[name] for name in sums}
    return {name: float(value) for name, value in sums.items()}

  def update_masks(self, iteration: int) -> float:
    """See the base class.

    Raises:
      DataError: if the data is damaged.
    """
    optimizer, gradients = self._optimizer, None
    if optimizer.update_is_iteration:
      with self._train.batches() as batches:
        _, gradients = self._reduced(*self._next_gradients(batches, iteration))
    before = [layer.mask.read_value() for layer in optimizer.layers]
    optimizer.update_masks(gradients, self._global_step, reduced=True)
    changed = [
      np.count_nonzero(old.numpy() != layer.mask.numpy())
      for old, layer in zip(before, optimizer.layers, strict=True)
    ]
    sizes = [mask.shape.num_elements() for mask in before]
    return float(np.float32(sum(changed) / sum(sizes)))

  def inspect(self) -> dict[str, float]:
    """See the base class; operation by operation, without a graph."""
    found = {name: float(v) for name, v in self._inspect_graph().items()}
    return state_metrics(found, self._optimizer)

  def _next_gradients(
    self, batches: Any, iteration: int
  ) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Means of the metrics and gradients of the batch that comes next."""
    return self._own_gradients(self._next(batches), int64(iteration))

  def _apply_own_graph(
    self, means: dict[str, Tensor], gradients: Sequence[Tensor]
  ) -> dict[str, Tensor]:
    return self._apply(*self._reduced(means, gradients))
