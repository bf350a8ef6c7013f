"""Strategies: the devices that train together, as the flags say.

`rigl.distribution.replicas` has what the replicas of a strategy compute.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from rigl.config.runner_flag import LOOP
from rigl.config.settings import setting
from rigl.distribution.replicas import Replicas

STRATEGIES = ("auto", "default", "mirrored", "multi_worker", "tpu")
_CLUSTER = "TF_CONFIG"
_TASKS = ("chief", "worker")
_GRPC = "grpc://"
_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class StrategySettings:
  """The flags that say on what a run trains; scripts' settings extend it."""

  strategy: str = setting(
    "auto",
    "Devices that train together. auto: tpu with --tpu, multi_worker with "
    "several workers in TF_CONFIG, mirrored with several GPUs, else default; "
    "default: one device; mirrored: all GPUs, or CPU devices, of this machine; "
    "multi_worker: those of all workers of TF_CONFIG; tpu: a Cloud TPU.",
    choices=STRATEGIES,
    defines_run=False,
  )
  tpu: str = setting(
    "",
    "Cloud TPU: its name, `local` on a TPU VM, or grpc://HOST:PORT.",
    defines_run=False,
  )
  virtual_devices: int = setting(
    0,
    "CPU devices to make of this machine's CPU, to try --strategy=mirrored; "
    "they show correctness, not speed. 0: as it is.",
    low=0,
    high=64,
    defines_run=False,
  )

  def devices(self) -> StrategySettings:
    """Hook: these flags, after others of the script had their say."""
    return self


@contextlib.contextmanager
def scope(settings: StrategySettings, *batch_sizes: str) -> Iterator[Replicas]:
  """Enters the scope of the strategy of the flags.

  Args:
    settings: the flags of the script.
    *batch_sizes: names of the settings that the replicas share equally.

  Yields:
    The replicas of the strategy.

  Raises:
    ValueError: as `create_strategy`, or if a batch cannot be shared.
  """
  if getattr(settings, "runner", LOOP) != LOOP:
    yield Replicas()  # The runner has devices of its own.
    return
  with create_strategy(settings.devices()).scope():
    replicas = Replicas()
    for name in batch_sizes:
      replicas.share(getattr(settings, name), name)
    yield replicas


def create_strategy(settings: StrategySettings) -> tf.distribute.Strategy:
  """Makes the strategy of the flags; call it before TensorFlow does anything.

  Args:
    settings: the flags.

  Returns:
    A strategy, in whose `scope()` a run is made; TensorFlow's default one for
    a single device.

  Raises:
    ValueError: if the flags or TF_CONFIG do not fit the devices.
  """
  tf.get_logger().setLevel("WARNING")  # It notes every reduction.
  if settings.virtual_devices:
    _make_virtual_devices(settings.virtual_devices)
  kind = _kind(settings)
  if kind == "tpu":
    return _tpu(settings.tpu)
  if settings.tpu:
    raise ValueError(f"`tpu` needs `strategy`=tpu, got {settings.strategy!r}.")
  if kind == "multi_worker":
    return _multi_worker()
  if kind == "mirrored":
    return _mirrored()
  return tf.distribute.get_strategy()


def refuse_workers(settings: StrategySettings, mode: str) -> None:
  """Refuses several workers where one process does all.

  Raises:
    ValueError: if the flags ask for them.
  """
  if _kind(settings.devices()) == "multi_worker":
    raise ValueError(
      f"`mode`={mode} runs in one process, got `strategy`="
      f"{settings.strategy!r} with workers in {_CLUSTER}."
    )


def workers() -> list[str]:
  """The addresses of the processes that TF_CONFIG says train together.

  Raises:
    ValueError: if TF_CONFIG is not as TensorFlow defines it.
  """
  return [address for _, address in _cluster()]


def _kind(settings: StrategySettings) -> str:
  if settings.strategy != "auto":
    return settings.strategy
  if settings.tpu:
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
