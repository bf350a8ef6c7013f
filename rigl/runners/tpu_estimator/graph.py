# SPDX-License-Identifier: Apache-2.0
"""Graphs of a TPUEstimator: one training iteration, one evaluation batch.

Their variables get their values from checkpoints, so no weight or mask is a
constant of the graph. The task decides what is built.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.data import stream_source
from rigl.runners.tpu_estimator.saver import EstimatorSaver
from rigl.runners.train_step import (
  GRADIENT_NORM,
  WEIGHT_NORM,
  norm_of_step,
  norm_of_weights,
)
from rigl.tensor_names import GLOBAL_STEP
from rigl.training.task import Task
from rigl.training.train_state import (
  ITERATION,
  OptimizerWrapper,
  TrainState,
  identity,
)
from rigl.types import Batch, Tensor, Variable

# Feature of training batches: the cursor behind the whole batch, int32
# [batch, n]. Checkpoints hold it under this name.
CURSOR = stream_source.CURSOR
# Prefix of the names of metrics, because Estimators have their own `loss`.
TEST = "test_"
COUNT = "count"
STEP = "step"
DUE = "due"  # 1 where an iteration is reported.


@dataclass(frozen=True)
class TrainingGraph:
  """Makes the graph of a training iteration; a `model_fn`.

  An iteration is one call of `SparseOptimizer.apply_gradients`: a gradient
  step, a mask update, or both.

  Attributes:
    make_state: makes the train state around a `global_step`; masks and weights
      will come from a checkpoint. The second argument wraps the optimizer that
      makes the steps.
    summaries: directory of the summaries.
    by_steps: whether positions of the run count steps, or else iterations.
    report_every: distance of summaries, in positions.
    keep: how many checkpoints to keep; 0 keeps all.
    norms: whether the norms of gradient and weights are summaries.
    use_tpu: whether it is built inside of a TPU computation.
    hooks: makes hooks from the scalars of an iteration, by name, and the
      saver. Not on TPUs, where the host cannot read the tensors.
  """

  make_state: Callable[[Variable, OptimizerWrapper], TrainState]
  summaries: str
  by_steps: bool
  report_every: int
  keep: int
  norms: bool
  use_tpu: bool
  hooks: Callable[[dict[str, Tensor], EstimatorSaver], list[Any]]

  def __call__(self, features: Batch, mode: str, params: Any) -> Any:
    """Builds the graph."""
    del params
    wrap: OptimizerWrapper = identity
    if self.use_tpu:
      wrap = tf.compat.v1.tpu.CrossShardOptimizer
    with _outside():
      step = tf.compat.v1.train.get_global_step()
      state = self.make_state(step, wrap)
      state.optimizer.create_slots(state.task.trainable_variables)
      own = {ITERATION: _counter([], ITERATION)}
      if CURSOR in features:
        own[CURSOR] = _counter(features[CURSOR].shape[1:], CURSOR)
      saver = EstimatorSaver(
        {
          **state.variables,
          **state.optimizer.state(),
          GLOBAL_STEP: step,
          **own,
        },
        self.keep,
        state.optimizer.mask_state(),
      )
    # Inside a function operations on variables keep the order of the program,
    # and the averages of batch normalisation are moved without being named.
    iterate = tf.function(
      lambda batch: self._iterate(state, own, batch), autograph=False
    )
    found = iterate(features)
    hooks = [] if self.use_tpu else self.hooks(found, saver)
    return tf.compat.v1.estimator.tpu.TPUEstimatorSpec(
      mode,
      loss=found["loss"],
      train_op=tf.group(*found.values()),
      scaffold_fn=lambda: _scaffold(saver),
      host_call=(
        self._write,
        # One row per shard; the host gets them concatenated.
        {name: tf.reshape(value, [1]) for name, value in found.items()},
      ),
      training_hooks=hooks,
    )

  def _iterate(
    self, state: TrainState, own: Mapping[str, Variable], batch: Batch
  ) -> dict[str, Tensor]:
    """Makes one iteration; returns the scalars to report."""
    optimizer, step = state.optimizer, state.global_step
    count, before = own[ITERATION], step.read_value()
    variables = state.task.trainable_variables
    metrics = state.task.metrics(batch, count.read_value())
    found = {name: tf.reduce_mean(m) for name, m in metrics.items()}
    # With several shards `compute_gradients` divides the loss by their number,
    # and the gradients are summed once, before anything is derived from them.
    gradients = optimizer.compute_gradients(found["loss"], variables)
    reduced = optimizer.reduce_gradients(gradients)
    if self.norms:
      found[GRADIENT_NORM] = norm_of_step(optimizer, reduced)
    optimizer.apply_gradients(reduced, step, reduced=True)
    if self.norms:
      found[WEIGHT_NORM] = norm_of_weights(variables)
    if CURSOR in own:
      own[CURSOR].assign(tf.cast(batch[CURSOR][-1], tf.int64))
    count.assign_add(1)
    after, done = step.read_value(), count.read_value()
    due = tf.equal((after if self.by_steps else done) % self.report_every, 0)
    if self.by_steps:
      due &= after > before
    found |= _state(state, due)
    found["cross_entropy"] = found["loss"]
    found["loss"] += found["regularization_loss"]
    found[DUE] = tf.cast(due, tf.float32)
    return {**found, ITERATION: done, STEP: after}

  def _write(self, **found: Tensor) -> list[Any]:
    """Writes summaries, on the host.

    Args:
      **found: float32 [shards] by name, but for two int64 ones.
    """
    iteration, due = found.pop(ITERATION)[0], found.pop(DUE)[0]
    del found[STEP]
    writer = tf.summary.create_file_writer(self.summaries)
    with writer.as_default(step=iteration), tf.summary.record_if(due > 0):
      for name, values in found.items():
        tf.summary.scalar(name, tf.reduce_mean(values))
    return tf.compat.v1.summary.all_v2_summary_ops()


@dataclass(frozen=True)
class EvaluationGraph:
  """Makes the graph of an evaluation; a `model_fn`.

  Attributes:
    make_task: makes the task and the variables of its model by name, which
      will get their values from a checkpoint.
  """

  make_task: Callable[[], tuple[Task, Mapping[str, Variable]]]

  def __call__(self, features: Batch, mode: str, params: Any) -> Any:
    """Builds the graph."""
    del params
    with _outside():
      task, variables = self.make_task()
      step = tf.compat.v1.train.get_global_step()
      saver = EstimatorSaver({**variables, GLOBAL_STEP: step}, 0)
    real = features["valid"] > 0
    metrics = task.metrics(features)
    found = {
      TEST + name: tf.where(real, metrics[name], 0.0)
      for name in task.eval_metric_names
    }
    found[COUNT] = tf.ones_like(features["valid"])
    return tf.compat.v1.estimator.tpu.TPUEstimatorSpec(
      mode,
      loss=tf.reduce_mean(metrics["loss"]),
      scaffold_fn=lambda: _scaffold(saver),
      eval_metrics=(_means, {"valid": features["valid"], **found}),
    )


def _means(valid: Tensor, **found: Tensor) -> dict[str, Any]:
  """The means over the examples that are no padding, on the host."""
  return {
    name: tf.compat.v1.metrics.mean(values, valid)
    for name, values in found.items()
  }


def _state(state: TrainState, is_due: Tensor) -> dict[str, Tensor]:
  """Metrics of the state; most are only computed when they are due."""
  optimizer, variables = state.optimizer, state.task.trainable_variables
  step = tf.cast(state.global_step.read_value(), tf.float32)
  masks = {la.name: la.mask for la in optimizer.layers}
  sizes = {name: mask.shape.num_elements() for name, mask in masks.items()}

  tracked = masks if optimizer.tracks_exploration else {}

  def ones() -> list[Tensor]:
    active = [mask_ops.count_ones(mask) for mask in masks.values()]
    explored = optimizer.explored_counts()
    counts = [*active, *(explored[name] for name in tracked)]
    return [tf.cast(count, tf.float32) for count in counts]

  found = {
    "regularization_loss": optimizer.regularization_loss(variables),
    "learning_rate": tf.cast(state.learning_rate.at(step, tf), tf.float32),
    "drop_fraction": optimizer.drop_fraction_at(step, tf),
  }
  if masks:
    number = len(masks) + len(tracked)
    zeros = lambda: [tf.constant(0.0) for _ in range(number)]  # noqa: E731
    counts = tf.cond(is_due, ones, zeros)
    counts = tf.nest.flatten(counts)  # With one layer it is no list.
    counts, explored = counts[: len(masks)], counts[len(masks) :]
    found["sparsity"] = 1.0 - tf.add_n(counts) / float(sum(sizes.values()))
    for (name, size), count in zip(sizes.items(), counts, strict=True):
      found[f"sparsity/{name}"] = 1.0 - count / float(size)
    if tracked:
      found["explored"] = tf.add_n(explored) / float(sum(sizes.values()))
    for name, count in zip(tracked, explored, strict=True):
      found[f"explored/{name}"] = count / float(sizes[name])
  return found


@contextlib.contextmanager
def _outside() -> Iterator[None]:
  """Makes variables outside of the TPU's loop and its name scopes.

  They then have the names of checkpoints, and their unused initial values are
  not part of the computation.
  """
  with (
    tf.init_scope(),
    tf.compat.v1.get_default_graph().name_scope(None),
  ):
    yield


def _counter(shape: Any, name: str) -> Variable:
  return tf.Variable(np.zeros(shape, np.int64), trainable=False, name=name)


def _scaffold(saver: EstimatorSaver) -> Any:
  tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.SAVERS, saver)
  return tf.compat.v1.train.Scaffold(saver=saver)
