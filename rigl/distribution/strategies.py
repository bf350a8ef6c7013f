# SPDX-License-Identifier: Apache-2.0
"""Strategies of `tf.distribute`: which devices train together."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import tensorflow as tf

STRATEGIES = ("auto", "default", "mirrored", "multi_worker", "tpu")
_CLUSTER = "TF_CONFIG"
_TASKS = ("chief", "worker")
_GRPC = "grpc://"
_SECONDS = 10.0


def create_strategy(
  strategy: str = "auto", tpu: str = "", virtual_devices: int = 0
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
  kind = resolve(strategy, tpu)
  if kind == "tpu":
    return _tpu(tpu)
  if tpu:
    raise ValueError(f"`tpu` needs `strategy`=tpu, got {strategy!r}.")
  if kind == "multi_worker":
    return _multi_worker()
  if kind == "mirrored":
    return _mirrored()
  return tf.distribute.get_strategy()


def workers() -> list[str]:
  """The addresses of the processes that TF_CONFIG says train together.

  Raises:
    ValueError: if TF_CONFIG is not as TensorFlow defines it.
  """
  return [address for _, address in _cluster()]


def resolve(strategy: str, tpu: str) -> str:
  """The kind of strategy that `auto` stands for; others as they are.

  Args:
    strategy: one of `STRATEGIES`.
    tpu: a Cloud TPU as in `create_strategy`; empty for none.
  """
  if strategy != "auto":
    return strategy
  if tpu:
    return "tpu"
  if len(workers()) > 1:
    return "multi_worker"
  gpus = tf.config.list_physical_devices("GPU")
  return "mirrored" if len(gpus) > 1 else "default"


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


def _multi_worker() -> tf.distribute.Strategy:
  if not workers():
    raise ValueError(
      f"`strategy`=multi_worker needs the environment variable {_CLUSTER}, "
      "which names the workers and this one, got none."
    )
  return tf.distribute.MultiWorkerMirroredStrategy()


def _cluster() -> list[tuple[str, str]]:
  """(kind, address) of every process of TF_CONFIG that trains."""
  text = os.environ.get(_CLUSTER, "")
  if not text:
    return []
  try:
    config = json.loads(text)
    cluster = config.get("cluster", {})
    found = [(kind, a) for kind in _TASKS for a in cluster.get(kind, [])]
    _check_task(config, cluster)
  except (ValueError, TypeError, AttributeError, KeyError) as error:
    raise ValueError(
      f"The environment variable {_CLUSTER} must be JSON as "
      '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", '
      f'"index": 0}}}}, got {text!r} ({error}).'
    ) from error
  return found


def _check_task(config: dict[str, Any], cluster: dict[str, Any]) -> None:
  if not cluster:
    return
  kind, index = config["task"]["type"], int(config["task"]["index"])
  if kind not in _TASKS or not 0 <= index < len(cluster.get(kind, [])):
    raise ValueError(f"there is no {kind} {index} that trains")


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
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(
      f"`tpu` must name a TPU that answers, or be `local` on a TPU VM with the "
      f"distribution tensorflow-tpu, got {name!r}: {text}"
    ) from error
  return tf.distribute.TPUStrategy(resolver)


def _check_answers(name: str) -> None:
  """Waits less than TensorFlow, which never gives up on an address."""
  if not name.startswith(_GRPC):
    return
  host, _, port = name.removeprefix(_GRPC).rpartition(":")
  with socket.create_connection((host, int(port)), _SECONDS):
    pass
