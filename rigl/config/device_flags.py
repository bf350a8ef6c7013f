# SPDX-License-Identifier: Apache-2.0
"""Flags that select the devices and the runner of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
from collections.abc import Iterator

import tensorflow as tf

from rigl.config import stop_signals
from rigl.config.settings import Settings, setting
from rigl.distribution import (
  cluster,
  jax_replicas,
  peers,
  replicas,
  strategies,
)
from rigl.distribution.cluster import Role

LOOP, JAX, TPU_ESTIMATOR = "loop", "jax", "tpu_estimator"
STOP, SKIP = "stop", "skip"
_CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def announce_role() -> Role:
  """Returns what this process has to do in its cluster, and prints it.

  Nothing is printed in a process that trains.

  Raises:
    ValueError: if TF_CONFIG is not as TensorFlow defines it.
  """
  found = cluster.read()
  if found.role is Role.EVALUATES:
    print("TF_CONFIG: this is the evaluator of the run.", flush=True)
  elif found.role is Role.IS_NOT_NEEDED:
    print(
      f"TF_CONFIG: training does not need the type `{found.task_type}`; this "
      "process ends.",
      flush=True,
    )
  return found.role


@dataclasses.dataclass(frozen=True)
class DeviceFlags(Settings):
  """Flags of devices and runners; the settings of every script extend it."""

  strategy: str = setting(
    strategies.AUTO,
    "Devices that train together. auto: tpu with --tpu, multi_worker with "
    "several workers in TF_CONFIG, mirrored with several GPUs, else default; "
    "default: one device; mirrored: all GPUs, or CPU devices, of this machine; "
    "multi_worker: those of all workers of TF_CONFIG; tpu: a Cloud TPU.",
    group="devices",
    choices=strategies.STRATEGIES,
    defines_run=False,
  )
  tpu: str = setting(
    "",
    "Cloud TPU: its name, `local` on a TPU VM, or grpc://HOST:PORT.",
    group="devices",
    defines_run=False,
  )
  virtual_devices: int = setting(
    0,
    "Number of devices to split this machine's CPU into, to try "
    "--strategy=mirrored; they show correctness, not speed. 0: no split.",
    group="devices",
    minimum=0,
    maximum=64,
    defines_run=False,
  )
  runner: str = setting(
    LOOP,
    "What trains and evaluates: loop; jax, on the GPUs, TPUs or CPUs that JAX "
    "sees; tpu_estimator, a TPUEstimator, which needs TensorFlow 2.15. One "
    "resumes where the other stopped.",
    group="devices",
    choices=(LOOP, JAX, TPU_ESTIMATOR),
    defines_run=False,
  )
  compilation_cache: str = setting(
    "",
    "jax: directory where compiled programs are kept, so that the next start "
    "is faster. Empty: JAX_COMPILATION_CACHE_DIR, or rigl/jax in the user's "
    "cache directory. none: they are not kept.",
    group="devices",
    defines_run=False,
    ignored=lambda flags: not flags.uses_jax,
  )

  on_nonfinite: str = setting(
    STOP,
    "What happens if the loss, a gradient or a weight is not finite any more. "
    "stop: the run ends, and its newest checkpoint is finite; skip: the step "
    "changes nothing and is counted as skipped_steps.",
    group="devices",
    choices=(STOP, SKIP),
    defines_run=False,
  )

  @property
  def uses_estimator(self) -> bool:
    """Whether a TPUEstimator trains and evaluates."""
    return self.runner == TPU_ESTIMATOR

  @property
  def uses_jax(self) -> bool:
    """Whether JAX's client runs the programs."""
    return self.runner == JAX

  @property
  def skips_nonfinite(self) -> bool:
    """Whether a step whose numbers are not finite changes nothing."""
    return self.on_nonfinite == SKIP

  def requested_devices(self) -> tuple[str, str]:
    """`strategy` and `tpu`; scripts with more flags of devices override it."""
    return self.strategy, self.tpu

  def check_runner(self) -> None:
    """Checks that the installed TensorFlow and the flags fit the runner.

    Raises:
      ValueError: if it does not.
    """
    if self.uses_estimator and self.skips_nonfinite:
      raise ValueError(
        f"`on_nonfinite`=skip needs `runner`=loop or jax, got {TPU_ESTIMATOR}."
      )
    if self.uses_jax and self.requested_devices()[1] not in ("", "local"):
      raise ValueError(
        "`tpu` must be empty or local with `runner`=jax, which trains on the "
        f"devices of this machine; got {self.requested_devices()[1]!r}."
      )
    version = tuple(tf.__version__.split(".")[:2])
    if self.uses_estimator and version != ("2", "15"):
      raise ValueError(
        f"`runner`={TPU_ESTIMATOR} needs TensorFlow 2.15 (installed: "
        f"{tf.__version__}): pip install -r requirements-tpu-estimator.txt"
      )

  def check_one_process(self, mode: str) -> None:
    """Checks that the flags ask for one process.

    Args:
      mode: the mode of the script, which several workers cannot share.

    Raises:
      ValueError: if they ask for several workers.
    """
    strategy, tpu = self.requested_devices()
    if strategies.resolve(strategy, tpu) == strategies.MULTI_WORKER:
      raise ValueError(
        f"`mode`={mode} runs in one process, got `strategy`={strategy!r} with "
        "workers in TF_CONFIG."
      )

  @contextlib.contextmanager
  def scope(self, *batch_sizes: str) -> Iterator[replicas.Replicas]:
    """Enters the scope of the strategy of the flags.

    Args:
      *batch_sizes: names of the settings that the replicas share equally.

    Yields:
      The replicas of the strategy.

    Raises:
      ValueError: if the devices are not there, or if a batch cannot be shared.
    """
    if self.uses_estimator:
      yield replicas.Replicas()  # An estimator chooses its devices itself.
      return
    strategy, tpu = self.requested_devices()
    if self.uses_jax:
      yield self._jax_replicas(strategies.TPU if tpu else strategy, batch_sizes)
      return
    starting: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if strategies.resolve(strategy, tpu) == strategies.MULTI_WORKER:
      found = cluster.read()
      if found.workers:
        peers.wait_for_peers(found.workers, found.own_address)
      # The workers connect in C++, where no thread of Python runs.
      starting = stop_signals.undelayed()
    with starting:
      made = strategies.create_strategy(strategy, tpu, self.virtual_devices)
    stop_signals.take_back()
    with made.scope():
      devices = replicas.Replicas()
      for name in batch_sizes:
        devices.share(getattr(self, name), name)
      yield devices

  def _jax_replicas(
    self, strategy: str, batch_sizes: tuple[str, ...]
  ) -> replicas.Replicas:
    found = jax_replicas.create_jax_replicas(
      strategy, self.virtual_devices, compilation_cache(self.compilation_cache)
    )
    stop_signals.take_back()
    for name in batch_sizes:
      found.share(getattr(self, name), name)
    return found


def compilation_cache(chosen: str) -> str | None:
  """The directory of compiled programs.

  Args:
    chosen: the flag `compilation_cache`.

  Returns:
    The directory. None: JAX's own choice, also if the default cannot be
    written.

  Raises:
    ValueError: if the chosen one cannot be written.
  """
  if chosen == "none" or (not chosen and os.environ.get(_CACHE_VARIABLE)):
    return None
  user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  place = os.path.join(user, "rigl", "jax")
  if chosen:
    place = os.path.abspath(os.path.expanduser(chosen))
  try:
    os.makedirs(place, exist_ok=True)
    if not os.access(place, os.W_OK | os.X_OK):
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
  except OSError as error:
    if chosen:
      raise ValueError(
        "`compilation_cache` must be 'none' or a writable directory, "
        f"got {chosen!r} ({error.strerror})."
      ) from error
    logging.warning(
      "Compiled programs are not kept: `%s`: %s.", place, error.strerror
    )
    return None
  return place
