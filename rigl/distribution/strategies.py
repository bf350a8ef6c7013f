# SPDX-License-Identifier: Apache-2.0
"""Strategies of `tf.distribute`: which devices train together."""

from __future__ import annotations

import logging
import socket

import tensorflow as tf

from rigl.distribution import cluster
from rigl.distribution.cluster import TF_CONFIG, Cluster
from rigl.error_text import first_line

AUTO, DEFAULT, MIRRORED = "auto", "default", "mirrored"
MULTI_WORKER, TPU = "multi_worker", "tpu"
STRATEGIES = (AUTO, DEFAULT, MIRRORED, MULTI_WORKER, TPU)
_GRPC = "grpc://"
_SECONDS = 10.0


def create_strategy(
  strategy: str = AUTO, tpu: str = "", virtual_devices: int = 0
) -> tf.distribute.Strategy:
  """Makes a strategy; call it before TensorFlow does anything.

  Args:
    strategy: one of `STRATEGIES`.
    tpu: a Cloud TPU: its name, `local` on a TPU VM, or grpc://HOST:PORT; empty
      for none.
    virtual_devices: number of devices to split this machine's CPU into; 0
      leaves it whole.

  Returns:
    A strategy, in whose `scope()` a run is made; TensorFlow's default one for
    a single device.

  Raises:
    ValueError: if the arguments or TF_CONFIG do not fit the devices.
  """
  tf.get_logger().setLevel("WARNING")  # It notes every reduction.
  if virtual_devices:
    _make_virtual_devices(virtual_devices)
  kind, found = resolve(strategy, tpu), cluster.read()
  if found.ignored and found.workers:
    names = ", ".join(f"`{name}`" for name in found.ignored)
    logging.warning("%s: training ignores the types %s.", TF_CONFIG, names)
  if kind == TPU:
    return _tpu(tpu)
  if tpu:
    raise ValueError(f"`tpu` needs `strategy`=tpu, got {strategy!r}.")
  if kind == MULTI_WORKER:
    return _multi_worker(found)
  if kind == MIRRORED:
    return _mirrored()
  return tf.distribute.get_strategy()


def resolve(strategy: str, tpu: str) -> str:
  """The kind of strategy that `auto` stands for; others as they are.

  A process that does not train is no worker: `multi_worker` is `auto` there.

  Args:
    strategy: one of `STRATEGIES`.
    tpu: a Cloud TPU as in `create_strategy`; empty for none.
  """
  found = cluster.read()
  is_outside = found.role is not cluster.Role.TRAINS
  if strategy != AUTO and not (strategy == MULTI_WORKER and is_outside):
    return strategy
  if tpu:
    return TPU
  if len(found.workers) > 1:
    return MULTI_WORKER
  gpus = tf.config.list_physical_devices("GPU")
  return MIRRORED if len(gpus) > 1 else DEFAULT


def _make_virtual_devices(count: int) -> None:
  cpu = tf.config.list_physical_devices("CPU")[0]
  wanted = [tf.config.LogicalDeviceConfiguration()] * count
  if len(tf.config.get_logical_device_configuration(cpu) or [None]) == count:
    return
  try:
    tf.config.set_logical_device_configuration(cpu, wanted)
  except RuntimeError as error:
    raise ValueError(
      f"`virtual_devices` must be set before TensorFlow starts, got {count}."
    ) from error


def _mirrored() -> tf.distribute.Strategy:
  """All GPUs; without one, all CPU devices."""
  kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
  devices = [device.name for device in tf.config.list_logical_devices(kind)]
  return tf.distribute.MirroredStrategy(devices)


def _multi_worker(found: Cluster) -> tf.distribute.Strategy:
  if not found.workers:
    raise ValueError(
      f"`strategy`=multi_worker needs the environment variable {TF_CONFIG}, "
      "which names the workers and this one, got none."
    )
  # TensorFlow's own resolver refuses types that training does not need.
  resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
    tf.train.ClusterSpec(dict(found.addresses)),
    task_type=found.task_type,
    task_id=found.index,
    rpc_layer=found.rpc_layer,
  )
  return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def _tpu(name: str) -> tf.distribute.Strategy:
  """Connects to a TPU and starts it, which forgets what it held."""
  try:
    _check_answers(name)
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
  except (
    ValueError,
    RuntimeError,
    OSError,
    ImportError,
    tf.errors.OpError,
  ) as error:
    raise ValueError(
      f"`tpu` must name a TPU that answers, or be `local` on a TPU VM with the "
      f"distribution tensorflow-tpu, got {name!r}: {first_line(error)}"
    ) from error
  return tf.distribute.TPUStrategy(resolver)


def _check_answers(name: str) -> None:
  """Waits less than TensorFlow, which never gives up on an address."""
  if not name.startswith(_GRPC):
    return
  host, _, port = name.removeprefix(_GRPC).rpartition(":")
  with socket.create_connection((host, int(port)), _SECONDS):
    pass
