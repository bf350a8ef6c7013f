"""What compiled programs of all kinds share: steps, mask updates, state.

Where the examples come from is said by `programs` and `stream_programs`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from rigl import mask_ops
from rigl.distribution import replicas
from rigl.sparse_optimizers import SparseOptimizer
from rigl.types import Batch, Tensor, Variable

CHANGED = "mask_changed"
_LOSS, _ONES, _NORM = "regularization_loss", "ones/", "weight_norm"
_GRADIENT_NORM = "gradient_norm"


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


class BasePrograms(abc.ABC):
  """Compiles what a run does on the device, or on all devices of a strategy.

  Make them in the scope of the strategy. On several replicas each computes
  the gradients of its share of a batch; their means decide the step and the
  masks, so that weights, masks and slots stay the same everywhere.

  Args:
    task: what is trained.
    optimizer: the sparse optimizer, with its masks.
    global_step: int64 variable that gradient steps advance.
    jit_compile: whether XLA compiles the programs; under a strategy only the
      gradients, because reductions are TensorFlow's.
    norms: whether the norms of gradient and weights are measured.
    averages: variables that each replica moves by itself; what is reported,
      evaluated and saved is after they were set to their mean.
  """

  def __init__(
    self,
    task: Task,
    optimizer: SparseOptimizer,
    global_step: Variable,
    jit_compile: bool = True,
    norms: bool = False,
    averages: Sequence[Variable] = (),
  ) -> None:
    self._task, self._optimizer = task, optimizer
    self._global_step, self._norms = global_step, norms
    self._averages = averages
    self._replicas = replicas.Replicas()
    optimizer.create_slots(task.trainable_variables)
    distributed = self._replicas.is_distributed
    # The whole program, or parts of it that have no reduction.
    self._jit_whole = jit_compile and not distributed
    self._own_gradients = self._own_gradients_graph
    if jit_compile and distributed and not self._replicas.is_tpu:
      self._own_gradients = tf.function(
        self._own_gradients_graph, jit_compile=True, autograph=False
      )
    self._inspect = Program(self._inspect_graph, self._jit_whole)

  @abc.abstractmethod
  def train_steps(self, iteration: int, count: int) -> dict[str, float]:
    """Makes gradient steps, at most `steps_left`.

    Args:
      iteration: number of iterations before.
      count: how many steps.

    Returns:
      Sums of the batch means of the metrics over the steps.
    """

  @abc.abstractmethod
  def steps_left(self, iteration: int) -> int:
    """The most steps that one call can make from this iteration on."""

  @abc.abstractmethod
  def update_masks(self, iteration: int) -> float:
    """Updates the masks, with the batch of this iteration if one is needed.

    Returns:
      The share of all connections, active or not, whose mask changed.
    """

  @abc.abstractmethod
  def evaluate(self) -> dict[str, float]:
    """The means of the metrics over all test examples."""

  def exportable(self) -> dict[str, tuple[Program, dict[str, Tensor]]]:
    """The programs by kind, each with arguments to compile it for.

    Raises:
      ValueError: if they read a stream, which cannot be exported.
    """
    raise ValueError("Programs that read a stream cannot be exported.")

  def on_device(self) -> dict[str, tuple[Program, dict[str, Any]]]:
    """What XLA compiles for a device, by kind, with arguments to do it for.

    The kinds are `train`, `update` and `evaluate`, if there are such programs.
    """
    return self.exportable()

  def inspect(self) -> dict[str, float]:
    """What the state of the training says without data.

    Returns:
      `regularization_loss`, and, if there are masks, the shares of zeros:
      `sparsity` of all masks, `sparsity/LAYER` of each; `weight_norm` if norms
      are measured.
    """
    self.synchronize()
    found = {name: float(v) for name, v in self._inspect().items()}
    return state_metrics(found, self._optimizer)

  def synchronize(self) -> None:
    """Sets what each replica averages by itself to the mean everywhere."""
    if self._replicas.count > 1:
      for variable in self._averages:
        variable.assign(variable.read_value())

  def _no_sums(self) -> dict[str, Tensor]:
    """Zeros to add the metrics of steps to."""
    names = list(self._task.metric_names)
    if self._norms:
      names.append(_GRADIENT_NORM)
    return {name: tf.constant(0.0) for name in names}

  def _step(self, batch: Batch, iteration: Tensor) -> dict[str, Tensor]:
    """Makes a gradient step, in a graph; returns the means of the metrics."""
    return self._apply(*self._gradients(batch, iteration))

  def _apply(
    self,
    metrics: dict[str, Tensor],
    gradients: list[tuple[Tensor, Variable]],
  ) -> dict[str, Tensor]:
    """Makes a step with what `_gradients` found; returns the metrics."""
    if self._norms:
      norm = tf.linalg.global_norm([g for g, _ in gradients])
      metrics = {**metrics, _GRADIENT_NORM: norm}
    self._optimizer.apply_masked_gradients(
      gradients, self._global_step, reduced=True
    )
    return metrics

  def _update(self, batch: Batch | None, iteration: Tensor) -> Tensor:
    """Updates the masks, in a graph; returns the share that changed.

    Args:
      batch: examples, if the update needs gradients.
      iteration: int64 scalar, number of iterations before.
    """
    before = [layer.mask.read_value() for layer in self._optimizer.layers]
    gradients = None if batch is None else self._gradients(batch, iteration)[1]
    self._optimizer.update_masks(gradients, self._global_step, reduced=True)
    after = [layer.mask.read_value() for layer in self._optimizer.layers]
    changed = [
      mask_ops.count_ones(old != new)
      for old, new in zip(before, after, strict=True)
    ]
    total = sum(mask.shape.num_elements() for mask in after)
    return tf.cast(tf.add_n(changed) / total, tf.float32)

  def _inspect_graph(self) -> dict[str, Tensor]:
    variables = self._task.trainable_variables
    found = {_LOSS: self._optimizer.regularization_loss(variables)}
    if self._norms:
      found[_NORM] = tf.linalg.global_norm([v.read_value() for v in variables])
    for layer in self._optimizer.layers:
      found[_ONES + layer.name] = mask_ops.count_ones(layer.mask)
    return found

  def _gradients(
    self, batch: Batch, iteration: Tensor
  ) -> tuple[dict[str, Tensor], list[tuple[Tensor, Variable]]]:
    """The means of metrics and gradients over the batches of all replicas."""
    return self._reduced(*self._own_gradients(batch, iteration))

  def _reduced(
    self, means: dict[str, Tensor], gradients: Sequence[Tensor]
  ) -> tuple[dict[str, Tensor], list[tuple[Tensor, Variable]]]:
    """The means over all replicas of what `_own_gradients` found on each."""
    share = 1.0 / replicas.num_replicas()
    if share != 1.0:
      gradients = [g * tf.cast(share, g.dtype) for g in gradients]
    pairs = zip(gradients, self._task.trainable_variables, strict=True)
    return (
      replicas.all_reduce_mean(means),
      self._optimizer.reduce_gradients(pairs),
    )

  def _own_gradients_graph(
    self, batch: Batch, iteration: Tensor
  ) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Those of the batch of this replica."""
    variables = self._task.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(variables)
      metrics = self._task.metrics(batch, iteration)
      means = {name: tf.reduce_mean(m) for name, m in metrics.items()}
    return means, tape.gradient(means["loss"], variables)


def add_real(
  sums: dict[str, Tensor], metrics: dict[str, Tensor], real: Tensor
) -> dict[str, Tensor]:
  """Adds the metrics of those examples that do not only fill a batch.

  Args:
    sums: float32 scalars by name.
    metrics: float32 [batch] by name.
    real: bool [batch].
  """
  return {
    name: total + tf.reduce_sum(tf.where(real, metrics[name], 0.0))
    for name, total in sums.items()
  }


def state_metrics(
  found: dict[str, float], optimizer: SparseOptimizer
) -> dict[str, float]:
  """Makes the metrics of `Programs.inspect` of what its program returned."""
  metrics = {name: found[name] for name in (_LOSS, _NORM) if name in found}
  sizes = {la.name: la.mask.shape.num_elements() for la in optimizer.layers}
  ones = {name: found[_ONES + name] for name in sizes}
  if sizes:
    metrics["sparsity"] = 1.0 - sum(ones.values()) / sum(sizes.values())
  for name, size in sizes.items():
    metrics[f"sparsity/{name}"] = 1.0 - ones[name] / size
  return metrics


class Program:
  """A function that is compiled at its first call, for those shapes alone.

  That TensorFlow need not look for a fitting trace halves the time of a call.

  Attributes:
    function: the `tf.function`.

  Args:
    function: of eager tensors, always of the same shapes and dtypes.
    jit_compile: whether XLA compiles it.
  """

  def __init__(self, function: Callable[..., Any], jit_compile: bool) -> None:
    self.function = tf.function(
      function, jit_compile=jit_compile, autograph=False
    )
    self._compiled: Callable[..., Any] | None = None

  def __call__(self, *arguments: Tensor) -> Any:
    """Runs it."""
    if self._compiled is None:
      self._compiled = self.function.get_concrete_function(*arguments)
    return self._compiled(*arguments)


def int64(value: int) -> Tensor:
  """A number as an argument of a program."""
  return tf.constant(value, tf.int64)
