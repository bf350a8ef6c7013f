# SPDX-License-Identifier: Apache-2.0
"""Replicas on the devices of JAX, which `--strategy` chooses."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.distribution import cluster, peers
from rigl.distribution.cluster import CHIEF
from rigl.distribution.replicas import Replicas
from rigl.distribution.strategies import AUTO, DEFAULT, MULTI_WORKER, TPU
from rigl.pjrt import initialization
from rigl.pjrt.jax_client import Client


class PerReplica:
  """Values of one tensor, one for each replica of this host.

  Attributes:
    values: the values, in the order of replicas.
  """

  def __init__(self, values: tuple[Any, ...]) -> None:
    self.values = values


class JaxReplicas(Replicas):
  """The replicas of programs that a client of JAX runs.

  There is no strategy of `tf.distribute`: variables are on the host, and the
  runner keeps a copy of them on every device.

  Attributes:
    client: the client.

  Args:
    client: the client.
  """

  def __init__(self, client: Client) -> None:
    self.client = client
    super().__init__()
    self.count = client.num_replicas
    self.num_hosts, self.host = client.num_hosts, client.host
    self.num_pipelines = self.num_hosts

  @property
  def is_tpu(self) -> bool:
    """Whether the replicas are cores of a TPU."""
    return self.client.platform == "tpu"

  def local(self, value: Any) -> tuple[Any, ...]:
    """The values of the replicas of this host."""
    return value.values if isinstance(value, PerReplica) else (value,)

  def batches(self, dataset: tf.data.Dataset) -> Any:
    """The batches of all replicas of this host, from those of single ones.

    Args:
      dataset: batches of the replicas, one after the other.
    """
    count = self.client.num_local
    return dataset if count == 1 else self._grouped(dataset, count)

  def _grouped(self, dataset: tf.data.Dataset, count: int) -> Iterator[Any]:
    iterator = iter(dataset)
    while len(group := list(itertools.islice(iterator, count))) == count:
      yield tf.nest.map_structure(lambda *parts: PerReplica(parts), *group)

  def all_gather_scalar(self, number: int) -> list[int]:
    """The numbers of all hosts, in their order; all of them must call it."""
    if self.num_hosts == 1:
      return [number]
    found = self.client.all_gather(np.array(number, np.int64))
    return [int(each) for each in found]

  def leave(self) -> None:
    """Lets this process, which has failed, end without the other hosts.

    At its end JAX would wait for them for minutes, and they for this one.
    """
    if self.num_hosts > 1:
      atexit.register(_end_at_once)


def create_jax_replicas(
  strategy: str = AUTO, virtual_devices: int = 0, cache: str | None = None
) -> JaxReplicas:
  """Starts JAX on the devices that train together.

  Args:
    strategy: `auto`: all devices of this machine, and with several workers in
      TF_CONFIG those of all of them; `default`: one device; `mirrored`: all of
      this machine; `multi_worker`: those of all workers of TF_CONFIG, or of all
      hosts that JAX itself finds; `tpu`: `auto` on a TPU.
    virtual_devices: number of devices to split this machine's CPU into; 0
      leaves it whole.
    cache: directory of compiled programs. None: JAX's choice.

  Raises:
    ValueError: if JAX is not installed, or the arguments or TF_CONFIG do not
      fit the devices.
  """
  _hide_gpus()
  _check_installed()
  if virtual_devices:
    initialization.split_cpu(virtual_devices)
  found = cluster.read()
  several = len(found.workers) > 1
  if strategy == MULTI_WORKER or (several and strategy in (AUTO, TPU)):
    _connect(found, several)
  return JaxReplicas(
    Client(
      "cpu" if virtual_devices else "tpu" if strategy == TPU else None,
      1 if strategy == DEFAULT else None,
      cache,
    )
  )


def _end_at_once() -> None:
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(1)


def _connect(found: cluster.Cluster, several: bool) -> None:
  """Connects the workers of TF_CONFIG, or the hosts that JAX finds."""
  if not several:
    if found.role is cluster.Role.TRAINS and not found.workers:
      initialization.initialize_hosts()
    return
  chiefs = len(found.addresses.get(CHIEF, []))
  host = found.index if found.task_type == CHIEF else chiefs + found.index
  own = found.own_address
  if host == 0:  # JAX listens at this port itself.
    peers.wait_for_peers(found.workers, own)
  with peers.found(found.workers, own):
    initialization.initialize_hosts(found.workers[0], len(found.workers), host)


def _check_installed() -> None:
  try:
    import jax  # noqa: F401
  except ImportError as error:
    raise ValueError(
      "`runner`=jax needs JAX: pip install 'rigl[jax]', 'rigl[jax-gpu]' or "
      f"'rigl[jax-tpu]' ({error})."
    ) from error


def _hide_gpus() -> None:
  """Leaves the GPUs to JAX; TensorFlow would take their memory."""
  if tf.config.list_physical_devices("GPU"):
    try:
      tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
      raise ValueError(
        "`runner`=jax must be chosen before TensorFlow uses the GPUs."
      ) from error
