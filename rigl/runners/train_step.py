# SPDX-License-Identifier: Apache-2.0
"""Train step: gradient step, mask update and state metrics of one replica.

These functions are built into the programs of `tensorflow_executor`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.data.source import Source
from rigl.distribution import replicas
from rigl.runners.guarded import Guard, guarded_variables
from rigl.sparse_optimizers import SparseOptimizer
from rigl.sparse_optimizers.gradients import dense_pairs
from rigl.training.executor import SKIPPED
from rigl.training.train_state import TrainState
from rigl.types import Batch, Metrics, Tensor, Variable

WEIGHT_NORM, GRADIENT_NORM = "weight_norm", "gradient_norm"

_LOSS, _ONES, _EXPLORED = "regularization_loss", "ones/", "explored/"

_Gradients = list[tuple[Tensor, Variable]]


def add_metrics(
  sums: dict[str, Tensor], metrics: Mapping[str, Tensor]
) -> dict[str, Tensor]:
  """Adds the metrics of a step to the sums, in the dtype of these."""
  return {
    n: total + tf.cast(metrics[n], total.dtype) for n, total in sums.items()
  }


def step_loop(
  step: Callable[[Any, Tensor], dict[str, Tensor]],
  take: Callable[[Any], Any],
  zero_sums: Callable[[], dict[str, Tensor]],
) -> Callable[[Any, Tensor, Tensor], dict[str, Tensor]]:
  """Makes a function of many steps, for a graph.

  Args:
    step: makes a step with what was taken, at an iteration; returns metrics.
    take: takes a batch out of the examples.
    zero_sums: makes the zeros to add metrics to.

  Returns:
    A function of the examples, the first iteration and the number of steps,
    int64 scalars. It returns the sums of the metrics.
  """

  def train_steps(examples: Any, first: Tensor, count: Tensor) -> Any:
    end = first + count

    def one_step(i: Tensor, sums: dict[str, Tensor]) -> tuple[Tensor, dict]:
      return i + 1, add_metrics(sums, step(take(examples), i))

    start = (first, zero_sums())
    return tf.while_loop(lambda i, _: i < end, one_step, start)[1]

  return train_steps


class TrainStep:
  """The computation of one replica; all replicas do the same.

  On several replicas each computes the gradients of its part of a batch.
  Their means decide the step and the masks, so weights, masks and slots stay
  the same on all of them.

  Args:
    state: the train state.
    source: the training batches.
    jit_gradients: whether XLA compiles the gradients by themselves.
    norms: whether the norms of gradient and weights are measured.
    skips: whether a step or a mask update whose numbers are not finite changes
      nothing. The step is counted; the update is repeated with the next batch.
    averages: variables that each replica moves by its own batch, and that are
      then set to their mean.
  """

  def __init__(
    self,
    state: TrainState,
    source: Source,
    jit_gradients: bool = False,
    norms: bool = False,
    skips: bool = False,
    averages: Sequence[Variable] = (),
  ) -> None:
    self._skips, self._averages = skips, averages
    self._guarded = guarded_variables(state)
    self._task, self._optimizer = state.task, state.optimizer
    self._global_step, self._source = state.global_step, source
    self._norms, self._gradients = norms, self._gradients_graph
    if jit_gradients:
      self._gradients = tf.function(
        self._gradients_graph, jit_compile=True, autograph=False
      )

  def zero_sums(self, dtype: tf.DType) -> dict[str, Tensor]:
    """Zeros to add the metrics of steps to.

    Args:
      dtype: that of the sums. Float64 makes a sum independent of the number of
        calls that it is made in; TPUs have float32.
    """
    names = list(self._task.metric_names)
    if self._norms:
      names.append(GRADIENT_NORM)
    if self._skips:
      names.append(SKIPPED)
    return {name: tf.zeros([], dtype) for name in names}

  def step(self, taken: Any, iteration: Tensor) -> dict[str, Tensor]:
    """Makes a gradient step; returns the means of the metrics.

    Args:
      taken: the result of `Source.take`.
      iteration: int64 scalar, number of iterations before.
    """
    batch = self._source.batch_of(taken, iteration)
    if not self._skips:
      return self.apply(*self._gradients(batch, iteration))
    guard = Guard(self._guarded)
    metrics, reduced = self.reduce(*self._gradients(batch, iteration))
    metrics = self._apply_reduced(metrics, reduced)
    is_good = guard.restore_unless_finite(
      [*metrics.values(), *(g for g, _ in reduced)]
    )
    metrics = {n: tf.where(is_good, m, 0.0) for n, m in metrics.items()}
    return {**metrics, SKIPPED: tf.where(is_good, 0.0, 1.0)}

  def update(self, taken: Any, iteration: Tensor) -> dict[str, Tensor]:
    """Updates the masks.

    Args:
      taken: the result of `Source.take`; None if no gradients are needed.
      iteration: int64 scalar, number of iterations before.

    Returns:
      {layer name: number of connections that changed}, int32 scalars.
    """
    layers = self._optimizer.layers
    before = [layer.snapshot() for layer in layers]
    guard = Guard(self._guarded) if self._skips else None
    gradients, numbers = None, []
    if taken is not None:
      batch = self._source.batch_of(taken, iteration)
      metrics, gradients = self.reduce(*self._gradients(batch, iteration))
      numbers = [*metrics.values(), *(g for g, _ in gradients)]
    self._optimizer.update_masks(gradients, self._global_step, reduced=True)
    if guard is not None:
      guard.restore_unless_finite(numbers)
    return {
      layer.name: layer.count_changes(old)
      for old, layer in zip(before, layers, strict=True)
    }

  def gradients(
    self, batch: Batch, iteration: Tensor
  ) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Means of the metrics and gradients over the batch of this replica.

    Args:
      batch: the examples.
      iteration: int64 scalar, number of iterations before.
    """
    return self._gradients(batch, iteration)

  def reduce(
    self, means: dict[str, Tensor], gradients: Sequence[Tensor]
  ) -> tuple[dict[str, Tensor], _Gradients]:
    """Means of the metrics and gradients over all replicas.

    The averages become their means in the same exchange.

    Args:
      means: means of the metrics of this replica.
      gradients: gradients of this replica.
    """
    variables = self._task.trainable_variables
    pairs = dense_pairs(zip(gradients, variables, strict=True))
    if replicas.num_replicas() == 1:
      return means, pairs
    share = 1.0 / replicas.num_replicas()
    own = [
      *(gradient for gradient, _ in pairs),
      *(average.read_value() for average in self._averages),
      *means.values(),
    ]
    found = iter(replicas.sums([v * tf.constant(share, v.dtype) for v in own]))
    reduced = [(next(found), variable) for _, variable in pairs]
    for average in self._averages:
      average.assign(next(found))
    return {name: next(found) for name in means}, reduced

  def apply(
    self, means: dict[str, Tensor], gradients: Sequence[Tensor]
  ) -> dict[str, Tensor]:
    """Makes a step by the gradients of all replicas; returns the metrics.

    Args:
      means: means of the metrics of this replica.
      gradients: gradients of this replica.
    """
    return self._apply_reduced(*self.reduce(means, gradients))

  def _apply_reduced(
    self, metrics: dict[str, Tensor], reduced: _Gradients
  ) -> dict[str, Tensor]:
    optimizer = self._optimizer
    if self._norms:
      metrics = {**metrics, GRADIENT_NORM: norm_of_step(optimizer, reduced)}
    optimizer.apply_masked_gradients(reduced, self._global_step, reduced=True)
    return metrics

  def _gradients_graph(
    self, batch: Batch, iteration: Tensor
  ) -> tuple[dict[str, Tensor], list[Tensor]]:
    variables = self._task.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(variables)
      metrics = self._task.metrics(batch, iteration)
      means = {name: tf.reduce_mean(m) for name, m in metrics.items()}
    return means, tape.gradient(means["loss"], variables)


def norm_of_step(
  optimizer: SparseOptimizer, gradients: Sequence[tuple[Tensor, Variable]]
) -> Tensor:
  """Norm of all gradients of a step: masked, with weight decay.

  Args:
    optimizer: the sparse optimizer.
    gradients: dense gradients of the loss, summed over replicas, and variables.
  """
  return tf.linalg.global_norm(
    [gradient for gradient, _ in optimizer.step_gradients(gradients)]
  )


def norm_of_weights(variables: Sequence[Variable]) -> Tensor:
  """Norm of all trainable variables."""
  return tf.linalg.global_norm([v.read_value() for v in variables])


def note_update(
  changed: Mapping[str, Any], optimizer: SparseOptimizer
) -> float:
  """Tells an optimizer about an update that a program made.

  Args:
    changed: {layer name: number of connections that changed}.
    optimizer: the sparse optimizer.

  Returns:
    The share of all connections that changed.
  """
  counts = [int(changed[layer.name]) for layer in optimizer.layers]
  sizes = [layer.size for layer in optimizer.layers]
  optimizer.note_update(counts)
  return float(np.float32(sum(counts) / sum(sizes)))


def measure_state(state: TrainState, norms: bool) -> dict[str, Tensor]:
  """Measures the state; `state_metrics` makes metrics of the result.

  Args:
    state: the train state.
    norms: whether the norm of the weights is measured.
  """
  variables, optimizer = state.task.trainable_variables, state.optimizer
  found = {_LOSS: optimizer.regularization_loss(variables)}
  if norms:
    found[WEIGHT_NORM] = norm_of_weights(variables)
  for layer in optimizer.layers:
    found[_ONES + layer.name] = mask_ops.count_ones(layer.mask)
  for name, count in optimizer.explored_counts().items():
    found[_EXPLORED + name] = count
  return found


def state_metrics(
  measured: dict[str, float], optimizer: SparseOptimizer
) -> Metrics:
  """Makes the metrics of `Executor.state_metrics`.

  Args:
    measured: the result of `measure_state`, as numbers.
    optimizer: the sparse optimizer.
  """
  metrics = {
    name: measured[name] for name in (_LOSS, WEIGHT_NORM) if name in measured
  }
  sizes = {layer.name: layer.size for layer in optimizer.layers}
  ones = {name: measured[_ONES + name] for name in sizes}
  if sizes:
    metrics["sparsity"] = 1.0 - sum(ones.values()) / sum(sizes.values())
  for name, size in sizes.items():
    metrics[f"sparsity/{name}"] = 1.0 - ones[name] / size
  explored = {n: measured.get(_EXPLORED + n) for n in sizes}
  known = {n: count for n, count in explored.items() if count is not None}
  if known:
    metrics["explored"] = sum(known.values()) / sum(sizes.values())
  for name, count in known.items():
    metrics[f"explored/{name}"] = count / sizes[name]
  return metrics
