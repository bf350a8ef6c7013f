# SPDX-License-Identifier: Apache-2.0
"""Specs of a TPUEstimator: settings, training and evaluation.

All of it needs TensorFlow 2.15.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from rigl import files
from rigl.runners.tpu_estimator.graph import COUNT, TEST, EvaluationGraph
from rigl.runners.tpu_estimator.hooks import StopHook
from rigl.tensor_names import GLOBAL_STEP
from rigl.training import checkpoints
from rigl.training.executor import StoppedError, never
from rigl.training.task import Task
from rigl.training.train_state import OptimizerWrapper, TrainState
from rigl.types import Batch, Metrics, Variable


@dataclass(frozen=True)
class EstimatorSettings:
  """Settings of a TPUEstimator: devices and batch sizes.

  Attributes:
    train_batch_size: examples per iteration, of all shards.
    eval_batch_size: examples per batch of an evaluation, of all shards.
    iterations_per_loop: iterations that a TPU makes without the host.
    use_tpu: whether it computes on TPUs.
    num_shards: number of TPU cores.
    master: address of the TPU worker; empty: this machine.
    tpu_job_name: name of the worker's job; empty: TensorFlow finds it.

  Raises:
    ValueError: if batches cannot be divided among the shards.
  """

  train_batch_size: int
  eval_batch_size: int
  iterations_per_loop: int = 1
  use_tpu: bool = False
  num_shards: int = 1
  master: str = ""
  tpu_job_name: str = ""

  def __post_init__(self) -> None:
    for name in ("train_batch_size", "eval_batch_size"):
      size = getattr(self, name)
      if self.use_tpu and size % self.num_shards:
        raise ValueError(
          f"`{name}` must be a multiple of `num_cores`, {self.num_shards}, "
          f"got {size}."
        )

  def estimator(
    self, graph: Any, directory: str, save_every: int | None = None
  ) -> Any:
    """Makes a TPUEstimator.

    Args:
      graph: its `model_fn`.
      directory: the directory of its checkpoints.
      save_every: steps between checkpoints. None: it writes none by itself.
    """
    # On TPU, TensorFlow's logs are the only progress output; elsewhere they are
    # mostly deprecation warnings.
    log = tf.compat.v1.logging
    log.set_verbosity(log.INFO if self.use_tpu else log.ERROR)
    tpu = tf.compat.v1.estimator.tpu
    config = tpu.RunConfig(
      master=self.master,
      model_dir=files.absolute(directory),
      # A seed of the graph would change the order of the data.
      tf_random_seed=None,
      save_checkpoints_steps=save_every,
      save_checkpoints_secs=None,
      save_summary_steps=None,
      checkpoint_save_graph_def=False,
      log_step_count_steps=None,
      session_config=tf.compat.v1.ConfigProto(allow_soft_placement=True),
      tpu_config=tpu.TPUConfig(
        iterations_per_loop=self.iterations_per_loop,
        num_shards=self.num_shards if self.use_tpu else None,
        tpu_job_name=self.tpu_job_name or None,
        # One pipeline per host; its batches go to the shards in turn.
        per_host_input_for_training=tpu.InputPipelineConfig.PER_HOST_V2,
      ),
    )
    return tpu.TPUEstimator(
      graph,
      config=config,
      use_tpu=self.use_tpu,
      train_batch_size=self.train_batch_size,
      eval_batch_size=self.eval_batch_size,
    )


@dataclass(frozen=True)
class EvalSpec:
  """An evaluation: its task and its batches.

  Attributes:
    make_task: makes the task and the variables of its model by name; their
      values will come from a checkpoint.
    batches: makes the batches of `eval_batch_size` examples, with `valid`,
      float32 [batch], 0 for padding.
    num_examples: the most examples to evaluate on.
  """

  make_task: Callable[[], tuple[Task, Mapping[str, Variable]]]
  batches: Callable[[], tf.data.Dataset]
  num_examples: int


@dataclass(frozen=True)
class TrainSpec:
  """A training: its train state and its batches.

  Attributes:
    make_state: makes the train state around a `global_step`; masks and weights
      will come from a checkpoint. The second argument wraps the optimizer that
      makes the steps.
    start: returns the data cursor of the run; called before a graph is built.
    batches: makes the batches of `train_batch_size` examples that follow.
  """

  make_state: Callable[[Variable, OptimizerWrapper], TrainState]
  start: Callable[[], Any]
  batches: Callable[[Any], tf.data.Dataset]


class EstimatorEvaluation:
  """Evaluates the current weights of a network through a TPUEstimator.

  Args:
    spec: the task and its batches.
    variables: the variables of the network by name.
    settings: devices and batch sizes.
  """

  def __init__(
    self,
    spec: EvalSpec,
    variables: Mapping[str, Variable],
    settings: EstimatorSettings,
  ) -> None:
    self._spec, self._variables = spec, variables
    self._settings = settings

  def __call__(self, is_stopped: Callable[[], bool] = never) -> Metrics:
    """The means of the metrics over all examples.

    Args:
      is_stopped: whether to stop; asked after each batch.

    Raises:
      StoppedError: if it was stopped.
      ValueError: if there are no examples.
    """
    size, stop = self._settings.eval_batch_size, StopHook(is_stopped)
    with tempfile.TemporaryDirectory() as directory:
      # Not the checkpoint of the run: in a published one weights need masks.
      tensors = {**self._variables, GLOBAL_STEP: tf.constant(0, tf.int64)}
      prefix = checkpoints.save(directory, 0, tensors)
      found = self.estimator(directory).evaluate(
        self.batches,
        steps=math.ceil(self._spec.num_examples / size),
        hooks=[stop],
        checkpoint_path=prefix,
      )
    if stop.is_early:
      raise StoppedError
    if not found[COUNT]:
      raise ValueError("There are no examples to evaluate on.")
    return {
      name.removeprefix(TEST): float(value)
      for name, value in found.items()
      if name.startswith(TEST)
    }

  def estimator(self, directory: str) -> Any:
    """Makes the TPUEstimator, which writes its files to a directory."""
    graph = EvaluationGraph(self._spec.make_task)
    return self._settings.estimator(graph, directory)

  def batches(self, params: Mapping[str, Any]) -> tf.data.Dataset:
    """The `input_fn` of the estimator."""
    dataset = self._spec.batches()
    if self._settings.use_tpu:
      dataset = _without_end(dataset)
    return for_shards(dataset, params)


def _without_end(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Adds empty batches, because a TPU needs as many as were announced."""

  def empty(batch: Batch) -> Batch:
    return {name: tf.zeros_like(value) for name, value in batch.items()}

  return dataset.concatenate(dataset.take(1).map(empty).repeat())


def for_shards(
  dataset: tf.data.Dataset, params: Mapping[str, Any]
) -> tf.data.Dataset:
  """Splits each batch into one batch per shard.

  Args:
    dataset: batches of all shards; those of one shard stay as they are.
    params: what TPUEstimator passes: `batch_size`, the examples of a shard, and
      on TPUs `context`.

  Raises:
    ValueError: if there are several hosts.
  """
  context = params.get("context")
  if context is not None and context.num_hosts > 1:
    raise ValueError(
      "`runner`=tpu_estimator trains on the TPU cores of one host, got "
      f"{context.num_hosts} hosts."
    )
  size = params["batch_size"]

  def cut(batch: Batch) -> Batch:
    return {
      name: tf.reshape(value, [-1, size, *value.shape[1:]])
      for name, value in batch.items()
    }

  if all(spec.shape[0] == size for spec in dataset.element_spec.values()):
    return dataset
  return dataset.map(cut).unbatch().prefetch(tf.data.AUTOTUNE)
