# SPDX-License-Identifier: Apache-2.0
"""Initialization of JAX: other processes, and devices of this machine's CPU.

Both come before any `Client`.
"""

from __future__ import annotations

from rigl import addresses
from rigl.error_text import first_line
from rigl.pjrt.jax_client import quieten


def initialize_hosts(
  address: str | None = None,
  num_hosts: int | None = None,
  host: int | None = None,
) -> None:
  """Connects this process with those that train with it; before any `Client`.

  Args:
    address: `HOST:PORT` of the first process. None: JAX finds the processes,
      as on a slice of TPUs.
    num_hosts: how many there are.
    host: number of this one, from 0.

  Raises:
    ValueError: if the address is wrong, the first process cannot use its port,
      or they do not find each other.
  """
  import jax

  quieten()
  if jax.distributed.is_initialized():
    return
  if address is not None:
    _check_port(address, host)
  # It catches SIGTERM, also while this process waits for the others.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(address, num_hosts, host)
  except (RuntimeError, ValueError) as error:
    where = f"at {address}" if address else "without TF_CONFIG"
    raise ValueError(
      f"The workers do not find each other {where}: {first_line(error)}"
    ) from error


def _check_port(address: str, host: int | None) -> None:
  """Refuses a port that JAX cannot use, where JAX would crash the process."""
  addresses.split(address)
  if host == 0:
    addresses.listen(address).close()


def split_cpu(count: int) -> None:
  """Makes devices of this machine's CPU; call it before any `Client`.

  Args:
    count: how many.

  Raises:
    ValueError: if JAX has started with another number.
  """
  import jax

  try:
    jax.config.update("jax_num_cpu_devices", count)
  except RuntimeError as error:
    if len(jax.local_devices(backend="cpu")) != count:
      raise ValueError(
        f"`virtual_devices` must be set before JAX starts, got {count}."
      ) from error
