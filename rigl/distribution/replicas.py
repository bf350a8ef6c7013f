# SPDX-License-Identifier: Apache-2.0
"""Replicas: shards, reductions, arrays on all devices.

They are those of a strategy of `tf.distribute`, which `strategies` chooses, or
those of one XLA program (`xla_replicas`). Without either there is a single
replica, and the functions of this module add no operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.distribution import xla_replicas
from rigl.types import Tensor


def num_replicas() -> int:
  """The number of replicas, including this one; 1 outside a replica."""
  return max(num_in_strategy(), xla_replicas.count())


def num_in_strategy() -> int:
  """The number of replicas of `tf.distribute`; 1 outside a replica context."""
  if tf.distribute.in_cross_replica_context():
    return 1
  return tf.distribute.get_replica_context().num_replicas_in_sync


def replica_number() -> Tensor | int:
  """The number of this replica, from 0; 0 outside a replica context."""
  if num_replicas() == 1:
    return 0
  if xla_replicas.count() > 1:
    return xla_replicas.number()
  return tf.distribute.get_replica_context().replica_id_in_sync_group


def local_shard(values: Tensor) -> Tensor:
  """The shard of a global batch that belongs to this replica.

  Args:
    values: [batch, ...] of static batch size, a multiple of the number of
      replicas; the same on all of them.

  Returns:
    [batch / replicas, ...].
  """
  count = num_replicas()
  if count == 1:
    return values
  shape = [count, values.shape[0] // count, *values.shape[1:]]
  return tf.gather(tf.reshape(values, shape), replica_number())


def sums(values: Sequence[Tensor]) -> list[Tensor]:
  """Sums of tensors over all replicas, which exchange them at once."""
  if num_replicas() == 1:
    return list(values)
  if xla_replicas.count() > 1:
    return xla_replicas.totals(values)
  context = tf.distribute.get_replica_context()
  return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(values)))


def all_reduce_sum(values: dict[str, Tensor]) -> dict[str, Tensor]:
  """Sums of float32 scalars over all replicas, in one reduction."""
  if num_replicas() == 1:
    return values
  (total,) = sums([tf.stack(list(values.values()))])
  return dict(zip(values, tf.unstack(total), strict=True))


class ReplicatedArray:
  """An array with a copy on every device of the strategy.

  Args:
    array: [rows, ...]; it must not change.
  """

  def __init__(self, array: np.ndarray) -> None:
    self._shape, self._dtype = array.shape[1:], tf.as_dtype(array.dtype)
    self._variable = tf.Variable(
      _as_words(array) if self._dtype == tf.uint8 else array,
      trainable=False,
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

  def gather(self, numbers: Tensor) -> Tensor:
    """The rows with these indices (integer [n]); called in a replica."""
    rows = tf.gather(self._variable, numbers)
    if self._dtype != tf.uint8:
      return rows
    length = int(np.prod(self._shape, dtype=np.int64))
    octets = tf.reshape(tf.bitcast(rows, tf.uint8), [rows.shape[0], -1])
    return tf.reshape(octets[:, :length], [rows.shape[0], *self._shape])


def _as_words(array: np.ndarray) -> np.ndarray:
  """Packs uint8 rows into int32; TensorFlow sends no bytes to workers."""
  flat = array.reshape(len(array), -1)
  flat = np.pad(flat, [(0, 0), (0, -flat.shape[1] % 4)])
  return np.ascontiguousarray(flat).view(np.int32)


def replicate(array: np.ndarray) -> Tensor | ReplicatedArray:
  """Copies an array to the device, or to every device of the strategy."""
  if tf.distribute.has_strategy():
    return ReplicatedArray(array)
  return tf.constant(array)


def as_numpy(
  arrays: dict[str, Tensor | ReplicatedArray],
) -> dict[str, np.ndarray]:
  """Converts results of `replicate` without a strategy back to arrays.

  Raises:
    RuntimeError: if there is a strategy.
  """
  result = {}
  for name, array in arrays.items():
    if isinstance(array, ReplicatedArray):
      raise RuntimeError("The arrays are on several devices.")
    result[name] = array.numpy()
  return result


def gather(array: Tensor | ReplicatedArray, numbers: Tensor) -> Tensor:
  """The rows with these indices (integer [n]) of a result of `replicate`."""
  if isinstance(array, ReplicatedArray):
    return array.gather(numbers)
  return tf.gather(array, numbers)


class Replicas:
  """The replicas of the strategy in whose scope this is made.

  Attributes:
    count: how many replicas there are.
    is_distributed: whether there is a strategy at all.
    num_hosts: number of processes that train together.
    host: index of this process; host 0 is the chief.
    num_pipelines: number of machines that read data, also where one process
      drives all of them.
  """

  def __init__(self) -> None:
    self.strategy = tf.distribute.get_strategy()
    self.is_distributed = tf.distribute.has_strategy()
    self.count = self.strategy.num_replicas_in_sync
    self.num_hosts, self.host = _place_of(self.strategy)
    self._gather: Callable[[Tensor], Tensor] | None = None
    self.num_pipelines = self.num_hosts
    if self.is_tpu:
      self.num_pipelines = self.strategy.extended.num_hosts

  @property
  def is_tpu(self) -> bool:
    """Whether the replicas are cores of a TPU."""
    return isinstance(self.strategy, tf.distribute.TPUStrategy)

  @property
  def is_chief(self) -> bool:
    """Whether this process writes checkpoints and metrics."""
    return self.host == 0

  def run(self, function: Callable[..., Any], arguments: Sequence = ()) -> Any:
    """Calls a function on every replica.

    Args:
      function: returns tensors that are the same on all replicas.
      arguments: its arguments; per-replica values are given to their replica.

    Returns:
      The result of the first replica of this host.
    """
    if not self.is_distributed:
      return function(*arguments)
    results = self.strategy.run(function, tuple(arguments))
    return tf.nest.map_structure(lambda v: self.local(v)[0], results)

  def local(self, value: Any) -> tuple[Any, ...]:
    """The values of the replicas of this host."""
    return self.strategy.experimental_local_results(value)

  def batches(self, dataset: tf.data.Dataset) -> Any:
    """The batches of all replicas of this host, from those of single ones.

    Args:
      dataset: batches of the replicas, one after the other; there is no
        strategy.
    """
    return dataset

  def all_gather_scalar(self, number: int) -> list[int]:
    """The numbers of all hosts, in their order; all of them must call it."""
    if self.num_hosts == 1:
      return [number]
    if self._gather is None:
      self._gather = tf.function(self._gather_graph, autograph=False)
    found = self._gather(tf.constant(number, tf.int64))
    return [int(n) for n in found.numpy()]

  def _gather_graph(self, number: Tensor) -> Tensor:
    return self.run(lambda: self.gather_from_last_replica(number))

  def gather_from_last_replica(self, value: Tensor) -> Tensor:
    """The value of the last replica of each pipeline; called in a replica.

    Args:
      value: int64 [...].

    Returns:
      int64 [pipelines, ...].
    """
    local = self.count // self.num_pipelines
    number = replica_number()
    row = tf.where(number % local == local - 1, number // local, -1)
    hot = tf.one_hot(row, self.num_pipelines, dtype=tf.int64)
    rows = tf.tensordot(hot, value, 0)
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, rows)

  def leave(self) -> None:
    """Lets this process, which has failed, end without the other hosts."""

  def check_count(self, wanted: int, name: str) -> None:
    """Checks that the flag `name` agrees with the number of replicas.

    Raises:
      ValueError: if it does not.
    """
    if wanted != self.count:
      raise ValueError(f"`{name}` must be {self.count} here, got {wanted}.")

  def share(self, batch_size: int, name: str) -> int:
    """The number of examples per replica.

    Args:
      batch_size: number of examples of a global batch.
      name: name of the flag, for the error.

    Raises:
      ValueError: if the replicas do not divide them equally.
    """
    if batch_size % self.count:
      raise ValueError(
        f"`{name}` must be a multiple of the number of replicas, "
        f"{self.count}, got {batch_size}."
      )
    return batch_size // self.count


def is_chief() -> bool:
  """Whether this process writes the files of its cluster."""
  return Replicas().is_chief


def _place_of(strategy: tf.distribute.Strategy) -> tuple[int, int]:
  """The number of processes that train together, and this one's index."""
  extended = strategy.extended
  num_hosts = getattr(extended, "_num_workers", 1)
  if num_hosts <= 1 or not isinstance(
    strategy, tf.distribute.MultiWorkerMirroredStrategy
  ):
    return 1, 0
  resolver = strategy.cluster_resolver
  if resolver.task_type == "chief":
    return num_hosts, 0
  chiefs = len(resolver.cluster_spec().as_dict().get("chief", []))
  return num_hosts, chiefs + int(resolver.task_id)
