"""TPUEstimators: how they are made, get their data and evaluate.

What trains by them is in `tpu_estimator`; all of it needs TensorFlow 2.15.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from rigl.runners.tpu_estimator.graph import COUNT, TEST, EvaluationGraph
from rigl.training import checkpoints
from rigl.training.train_state import OptimizerWrapper, TrainState
from rigl.types import Tensor, Variable


@dataclass(frozen=True)
class EstimatorSettings:
  """Where and in which pieces a TPUEstimator computes.

  Attributes:
    train_batch_size: examples an iteration, of all shards.
    eval_batch_size: examples a batch of an evaluation, of all shards.
    iterations_per_loop: iterations that a TPU makes without the host.
    use_tpu: whether it computes on TPUs.
    num_shards: their number of cores.
    master: address of the TPU worker; empty: this machine.
    tpu_job_name: name of the worker's job; empty: as TensorFlow finds it.

  Raises:
    ValueError: if batches cannot be shared out to shards.
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
      directory: that of its checkpoints.
      save_every: steps between checkpoints. None: it writes none by itself.
    """
    # Of a TPU only TensorFlow's own messages say how far it is; elsewhere they
    # say for the most part that Estimators are outdated.
    log = tf.compat.v1.logging
    log.set_verbosity(log.INFO if self.use_tpu else log.ERROR)
    tpu = tf.compat.v1.estimator.tpu
    config = tpu.RunConfig(
      master=self.master,
      model_dir=os.path.abspath(directory),
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
        # One pipeline a host, one batch of it for each shard in turn.
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
class Evaluated:
  """What is evaluated on what.

  Attributes:
    make_task: see `EvaluationGraph`.
    batches: makes the batches of `eval_batch_size` examples, with `valid`,
      float32 [batch], 0 for what only fills the last ones.
    num_examples: at most so many are evaluated on.
  """

  make_task: Callable[[], tuple[Any, Mapping[str, Variable]]]
  batches: Callable[[], tf.data.Dataset]
  num_examples: int


@dataclass(frozen=True)
class Trained:
  """What is trained on what.

  Attributes:
    make_learner: see `TrainingGraph`.
    start: says, before a graph is built, where in the data a run is.
    batches: makes the batches of `train_batch_size` examples that follow.
  """

  make_learner: Callable[[Variable, OptimizerWrapper], TrainState]
  start: Callable[[], Any]
  batches: Callable[[Any], tf.data.Dataset]


class EstimatorEvaluation:
  """Evaluates the present weights of a network through a TPUEstimator.

  Args:
    evaluated: what is evaluated.
    variables: the variables of its model, whose values count, by name.
    settings: where it computes.
  """

  def __init__(
    self,
    evaluated: Evaluated,
    variables: Mapping[str, Variable],
    settings: EstimatorSettings,
  ) -> None:
    self._evaluated, self._variables = evaluated, variables
    self._settings = settings

  def __call__(self) -> dict[str, float]:
    """The means of the metrics over all examples.

    Raises:
      ValueError: if there are no examples.
    """
    size = self._settings.eval_batch_size
    with tempfile.TemporaryDirectory() as directory:
      # Not the checkpoint of the run: in a published one weights need masks.
      tensors = {**self._variables, "global_step": tf.constant(0, tf.int64)}
      prefix = checkpoints.save(directory, 0, tensors)
      found = self.estimator(directory).evaluate(
        self.batches,
        steps=math.ceil(self._evaluated.num_examples / size),
        checkpoint_path=prefix,
      )
    if not found[COUNT]:
      raise ValueError("There are no images to evaluate on.")
    return {
      name.removeprefix(TEST): float(value)
      for name, value in found.items()
      if name.startswith(TEST)
    }

  def estimator(self, directory: str) -> Any:
    """Makes the TPUEstimator, with a directory for what it writes."""
    graph = EvaluationGraph(self._evaluated.make_task)
    return self._settings.estimator(graph, directory)

  def batches(self, params: Mapping[str, Any]) -> tf.data.Dataset:
    """Its `input_fn`."""
    dataset = self._evaluated.batches()
    if self._settings.use_tpu:
      dataset = _without_end(dataset)
    return for_shards(dataset, params)


def _without_end(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Adds empty batches, because a TPU must get as many as it was promised."""

  def empty(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tf.zeros_like(value) for name, value in batch.items()}

  return dataset.concatenate(dataset.take(1).map(empty).repeat())


def for_shards(
  dataset: tf.data.Dataset, params: Mapping[str, Any]
) -> tf.data.Dataset:
  """Cuts each batch into those of the shards."""
  context = params.get("context")
  if context is not None and context.num_hosts > 1:
    raise ValueError(
      "`runner`=tpu_estimator trains on the TPU cores of one host, got "
      f"{context.num_hosts} hosts."
    )
  size = params["batch_size"]

  def cut(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
      name: tf.reshape(value, [-1, size, *value.shape[1:]])
      for name, value in batch.items()
    }

  if all(spec.shape[0] == size for spec in dataset.element_spec.values()):
    return dataset
  return dataset.map(cut).unbatch().prefetch(tf.data.AUTOTUNE)
