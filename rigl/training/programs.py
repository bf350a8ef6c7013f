"""The compiled programs of a run: many steps, a mask update, an evaluation.

Which program runs when is decided on the host by the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.sources import ArraySource

Tensor = Any
Variable = Any
Batch = dict[str, Tensor]

_PADDING = -1
_LOSS, _ONES = "regularization_loss", "ones/"


class Task(Protocol):
  """What is trained."""

  @property
  def trainable_variables(self) -> Sequence[Variable]:
    """The variables to train."""

  @property
  def metric_names(self) -> Sequence[str]:
    """The names of the metrics of training."""

  @property
  def eval_metric_names(self) -> Sequence[str]:
    """The names of the metrics of an evaluation."""

  def metrics(
    self, batch: Batch, iteration: Tensor | None = None
  ) -> dict[str, Tensor]:
    """Per-example metrics, float32 [batch] each; `loss` is minimised.

    Args:
      batch: the examples.
      iteration: int64 scalar, the number of iterations before this training
        iteration; it decides what is random. None: evaluation.
    """


class Programs:
  """Compiles what a run does on the device.

  Args:
    task: what is trained.
    optimizer: the sparse optimizer, with its masks.
    train: the training examples.
    test: the examples to evaluate on; all of them count, whatever the batch
      size.
    global_step: int64 variable that gradient steps advance.
    eval_batch_size: examples a batch of the evaluation.
    jit_compile: whether XLA compiles the programs.
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
  ) -> None:
    self._task, self._optimizer = task, optimizer
    self._train, self._test = train, test
    self._global_step = global_step
    self._eval_order = tf.constant(
      _padded_order(test.num_examples, eval_batch_size)
    )
    optimizer.create_slots(task.trainable_variables)
    self._train_steps = _Program(self._train_steps_graph, jit_compile)
    self._update_masks = _Program(self._update_masks_graph, jit_compile)
    self._evaluate = _Program(self._evaluate_graph, jit_compile)
    self._inspect = _Program(self._inspect_graph, jit_compile)

  def train_steps(self, iteration: int, count: int) -> dict[str, float]:
    """Makes gradient steps; they must lie in one epoch.

    Args:
      iteration: number of iterations before.
      count: how many steps.

    Returns:
      Sums of the batch means of the metrics over the steps.
    """
    order = self._train.order(iteration)
    sums = self._train_steps(order, _int64(iteration), _int64(count))
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
    return float(self._update_masks(order, _int64(iteration)))

  def evaluate(self) -> dict[str, float]:
    """The means of the metrics over all test examples."""
    means = self._evaluate(self._eval_order)
    return {name: float(value) for name, value in means.items()}

  def inspect(self) -> dict[str, float]:
    """What the state of the training says without data.

    Returns:
      `regularization_loss`, and, if there are masks, the shares of zeros:
      `sparsity` of all masks, `sparsity/LAYER` of each.
    """
    found = {name: float(v) for name, v in self._inspect().items()}
    return state_metrics(found, self._optimizer)

  def _train_steps_graph(
    self, order: Tensor, first: Tensor, count: Tensor
  ) -> dict[str, Tensor]:
    def step(i: Tensor, sums: dict[str, Tensor]) -> tuple[Tensor, dict]:
      metrics, gradients = self._gradients(order, i)
      self._optimizer.apply_masked_gradients(gradients, self._global_step)
      return i + 1, {name: sums[name] + metrics[name] for name in sums}

    zeros = {name: tf.constant(0.0) for name in self._task.metric_names}
    end = first + count
    _, sums = tf.while_loop(lambda i, _: i < end, step, (first, zeros))
    return sums

  def _update_masks_graph(self, order: Tensor, iteration: Tensor) -> Tensor:
    before = [layer.mask.read_value() for layer in self._optimizer.layers]
    gradients = None
    if self._optimizer.update_is_iteration:
      gradients = self._gradients(order, iteration)[1]
    self._optimizer.update_masks(gradients, self._global_step)
    after = [layer.mask.read_value() for layer in self._optimizer.layers]
    changed = [
      mask_ops.count_ones(old != new)
      for old, new in zip(before, after, strict=True)
    ]
    total = sum(mask.shape.num_elements() for mask in after)
    return tf.add_n(changed) / total

  def _evaluate_graph(self, order: Tensor) -> dict[str, Tensor]:
    def add_batch(i: Tensor, sums: dict[str, Tensor]) -> tuple[Tensor, dict]:
      numbers = tf.gather(order, i)
      real = numbers != _PADDING
      batch = self._test.batch(tf.maximum(numbers, 0))
      metrics = self._task.metrics(batch)
      added = {
        name: sums[name] + tf.reduce_sum(tf.where(real, metrics[name], 0.0))
        for name in sums
      }
      return i + 1, added

    zeros = {name: tf.constant(0.0) for name in self._task.eval_metric_names}
    count = self._eval_order.shape[0]
    _, sums = tf.while_loop(lambda i, _: i < count, add_batch, (0, zeros))
    return {name: s / self._test.num_examples for name, s in sums.items()}

  def _inspect_graph(self) -> dict[str, Tensor]:
    variables = self._task.trainable_variables
    found = {_LOSS: self._optimizer.regularization_loss(variables)}
    for layer in self._optimizer.layers:
      found[_ONES + layer.name] = mask_ops.count_ones(layer.mask)
    return found

  def _gradients(
    self, order: Tensor, iteration: Tensor
  ) -> tuple[dict[str, Tensor], list[tuple[Tensor, Variable]]]:
    batch = self._train.batch(self._train.numbers(order, iteration))
    variables = self._task.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(variables)
      metrics = self._task.metrics(batch, iteration)
      means = {name: tf.reduce_mean(m) for name, m in metrics.items()}
    gradients = tape.gradient(means["loss"], variables)
    return means, list(zip(gradients, variables, strict=True))


def state_metrics(
  found: dict[str, float], optimizer: SparseOptimizer
) -> dict[str, float]:
  """Makes the metrics of `Programs.inspect` of what its program returned."""
  metrics = {_LOSS: found[_LOSS]}
  sizes = {la.name: la.mask.shape.num_elements() for la in optimizer.layers}
  ones = {name: found[_ONES + name] for name in sizes}
  if sizes:
    metrics["sparsity"] = 1.0 - sum(ones.values()) / sum(sizes.values())
  for name, size in sizes.items():
    metrics[f"sparsity/{name}"] = 1.0 - ones[name] / size
  return metrics


class _Program:
  """A function that is compiled at its first call, for those shapes alone.

  That TensorFlow need not look for a fitting trace halves the time of a call.

  Args:
    function: of eager tensors, always of the same shapes and dtypes.
    jit_compile: whether XLA compiles it.
  """

  def __init__(self, function: Callable[..., Any], jit_compile: bool) -> None:
    self._function = tf.function(
      function, jit_compile=jit_compile, autograph=False
    )
    self._compiled: Callable[..., Any] | None = None

  def __call__(self, *arguments: Tensor) -> Any:
    if self._compiled is None:
      self._compiled = self._function.get_concrete_function(*arguments)
    return self._compiled(*arguments)


def _int64(value: int) -> Tensor:
  return tf.constant(value, tf.int64)


def _padded_order(num_examples: int, batch_size: int) -> np.ndarray:
  """All example numbers in rows; the last row is filled with -1."""
  batch_size = min(batch_size, num_examples)
  num_batches = -(-num_examples // batch_size)
  order = np.full(num_batches * batch_size, _PADDING, np.int32)
  order[:num_examples] = np.arange(num_examples)
  return order.reshape(num_batches, batch_size)
