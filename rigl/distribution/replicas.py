"""Several devices that train together, by `tf.distribute`.

What every replica computes alike, and what of its own; which strategy there is
is chosen by `training.strategies`. Without a strategy there is one replica,
and nothing here makes an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.types import Tensor


def num_replicas() -> int:
  """Replicas that compute with this one; 1 outside a replica context."""
  if tf.distribute.in_cross_replica_context():
    return 1
  return tf.distribute.get_replica_context().num_replicas_in_sync


def replica_number() -> Tensor | int:
  """The number of this replica, from 0; 0 outside a replica context."""
  if num_replicas() == 1:
    return 0
  return tf.distribute.get_replica_context().replica_id_in_sync_group


def own_share(values: Tensor) -> Tensor:
  """The part of a global batch that this replica computes.

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


def mean_of_all(values: dict[str, Tensor]) -> dict[str, Tensor]:
  """The means over all replicas of float32 scalars, by one reduction."""
  return _reduced(values, tf.distribute.ReduceOp.MEAN)


def sum_of_all(values: dict[str, Tensor]) -> dict[str, Tensor]:
  """The sums over all replicas of float32 scalars, by one reduction."""
  return _reduced(values, tf.distribute.ReduceOp.SUM)


def _reduced(
  values: dict[str, Tensor], operation: tf.distribute.ReduceOp
) -> dict[str, Tensor]:
  if num_replicas() == 1:
    return values
  context = tf.distribute.get_replica_context()
  total = context.all_reduce(operation, tf.stack(list(values.values())))
  return dict(zip(values, tf.unstack(total), strict=True))


class RowsOnAll:
  """An array that every device of the strategy has a copy of.

  Args:
    array: [rows, ...], which does not change.
  """

  def __init__(self, array: np.ndarray) -> None:
    self._shape, self._dtype = array.shape[1:], tf.as_dtype(array.dtype)
    self._variable = tf.Variable(
      _as_words(array) if self._dtype == tf.uint8 else array,
      trainable=False,
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

  def gather(self, numbers: Tensor) -> Tensor:
    """The rows with these numbers (integer [n]), in a replica."""
    rows = tf.gather(self._variable, numbers)
    if self._dtype != tf.uint8:
      return rows
    length = int(np.prod(self._shape, dtype=np.int64))
    octets = tf.reshape(tf.bitcast(rows, tf.uint8), [rows.shape[0], -1])
    return tf.reshape(octets[:, :length], [rows.shape[0], *self._shape])


def _as_words(array: np.ndarray) -> np.ndarray:
  """uint8 rows as int32 ones; TensorFlow does not send bytes to workers."""
  flat = array.reshape(len(array), -1)
  flat = np.pad(flat, [(0, 0), (0, -flat.shape[1] % 4)])
  return np.ascontiguousarray(flat).view(np.int32)


def on_all(array: np.ndarray) -> Tensor | RowsOnAll:
  """Puts an array on the device, or on every device of the strategy."""
  if tf.distribute.has_strategy():
    return RowsOnAll(array)
  return tf.constant(array)


def as_numpy(arrays: dict[str, Tensor | RowsOnAll]) -> dict[str, np.ndarray]:
  """What `on_all` returned without a strategy, as arrays again.

  Raises:
    RuntimeError: if there is a strategy.
  """
  found = {}
  for name, array in arrays.items():
    if isinstance(array, RowsOnAll):
      raise RuntimeError("The arrays are on several devices.")
    found[name] = array.numpy()
  return found


def gather(array: Tensor | RowsOnAll, numbers: Tensor) -> Tensor:
  """The rows with these numbers (integer [n]) of what `on_all` returned."""
  if isinstance(array, RowsOnAll):
    return array.gather(numbers)
  return tf.gather(array, numbers)


class Replicas:
  """The replicas of the strategy in whose scope this is made.

  Attributes:
    count: how many replicas there are.
    is_distributed: whether there is a strategy at all.
    num_hosts: processes that train together.
    host: the number of this one, from 0; host 0 is the chief.
    num_pipelines: machines that read data, also where one process drives all.
  """

  def __init__(self) -> None:
    self.strategy = tf.distribute.get_strategy()
    self.is_distributed = tf.distribute.has_strategy()
    self.count = self.strategy.num_replicas_in_sync
    self.num_hosts, self.host = _place_of(self.strategy)
    self._gather: Any = None
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
      What the first replica of this host returned.
    """
    if not self.is_distributed:
      return function(*arguments)
    found = self.strategy.run(function, tuple(arguments))
    return tf.nest.map_structure(lambda v: self.local(v)[0], found)

  def local(self, value: Any) -> tuple[Any, ...]:
    """The values of the replicas of this host."""
    return self.strategy.experimental_local_results(value)

  def of_all_hosts(self, number: int) -> list[int]:
    """What every host says; all of them have to ask."""
    if self.num_hosts == 1:
      return [number]
    if self._gather is None:
      self._gather = tf.function(self._gather_graph, autograph=False)
    found = self._gather(tf.constant(number, tf.int64))
    return [int(n) for n in found.numpy()]

  def _gather_graph(self, number: Tensor) -> Tensor:
    return self.run(lambda: self.of_last_replicas(number))

  def of_last_replicas(self, value: Tensor) -> Tensor:
    """What the last replica of each pipeline has; called in a replica.

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

  def check_count(self, wanted: int, name: str) -> None:
    """Refuses another number of replicas than the flag `name` says.

    Raises:
      ValueError: if it is another.
    """
    if wanted != self.count:
      raise ValueError(f"`{name}` must be {self.count} here, got {wanted}.")

  def share(self, batch_size: int, name: str) -> int:
    """The examples of one replica of a batch of all.

    Args:
      batch_size: examples a batch.
      name: of the flag, for the error.

    Raises:
      ValueError: if they cannot be shared equally.
    """
    if batch_size % self.count:
      raise ValueError(
        f"`{name}` must be a multiple of the number of replicas, "
        f"{self.count}, got {batch_size}."
      )
    return batch_size // self.count


def is_chief() -> bool:
  """Whether this process is the one of its cluster that writes files."""
  return Replicas().is_chief


def _place_of(strategy: tf.distribute.Strategy) -> tuple[int, int]:
  """The number of processes that train together and that of this one."""
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
