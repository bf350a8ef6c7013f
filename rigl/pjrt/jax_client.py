# SPDX-License-Identifier: Apache-2.0
"""JAX client: compiles StableHLO and runs it on one or several devices.

It uses private names of JAX, which has no public function that compiles a
StableHLO text for replicas. The file is copied into exported folders, and needs
NumPy and JAX alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Client:
  """The devices of this process and of those that train with it.

  A program runs on all devices at once, as one replica on each. Replicas are
  numbered host by host.

  Attributes:
    platform: `cpu`, `gpu` or `tpu`.
    num_replicas: devices of all processes.
    num_local: devices of this process.
    num_hosts: processes that train together.
    host: number of this process, from 0.

  Args:
    platform: `cpu`, `gpu` or `tpu`. None: JAX's choice.
    count: how many devices of this process are used. None: all of them.
    cache: directory of compiled programs, which later processes load. None:
      JAX's own choice, which is no directory by default.

  Raises:
    ValueError: if there are no such devices.
  """

  def __init__(
    self,
    platform: str | None = None,
    count: int | None = None,
    cache: str | None = None,
  ) -> None:
    # Several runs share a card.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    from jax.extend import backend

    quieten()
    jax.config.update("jax_enable_x64", True)
    if cache is not None:
      jax.config.update("jax_compilation_cache_dir", cache)
    self._jax = jax
    try:
      self._backend = backend.get_backend(platform)
    except RuntimeError as error:
      raise ValueError(first_line(error)) from error
    except AssertionError as error:  # JAX's, without a text.
      raise ValueError(
        "JAX finds no device of `JAX_PLATFORMS`="
        f"{os.environ.get('JAX_PLATFORMS', '')}."
      ) from error
    devices = sorted(
      self._backend.devices(), key=lambda d: (d.process_index, d.id)
    )
    self.host = self._backend.process_index()
    self.num_hosts = 1 + max(device.process_index for device in devices)
    local = [d for d in devices if d.process_index == self.host]
    if self.num_hosts == 1:
      devices = local = local[:count]
    self._devices, self._local = devices, local
    self.num_replicas, self.num_local = len(devices), len(local)
    self.platform = self._backend.platform
    if self.platform in ("cuda", "rocm"):
      self.platform = "gpu"
    self._sharding: Any = None
    if self.num_replicas > 1:
      mesh = jax.sharding.Mesh(np.array(devices), ("replicas",))
      # Arrays may differ from device to device all the same.
      self._sharding = jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec()
      )

  def put(self, value: Any) -> Any:
    """Copies an array to every device of this process; it may go on meanwhile.

    Args:
      value: an array, which must not change. One that is on the devices is
        returned as it is.
    """
    if isinstance(value, self._jax.Array):
      return value
    return self.put_each([np.asarray(value)] * self.num_local)

  def put_each(self, values: Sequence[Any]) -> Any:
    """Copies one array to each device of this process.

    Args:
      values: arrays of one shape and dtype, in the order of replicas.
    """
    arrays = [
      self._jax.device_put(np.asarray(value), device)
      for value, device in zip(values, self._local, strict=True)
    ]
    return self._joined(arrays)

  def values(self, array: Any) -> list[np.ndarray]:
    """The values of an array on each device of this process."""
    return [np.asarray(shard.data) for shard in array.addressable_shards]

  def all_gather(self, value: np.ndarray) -> np.ndarray:
    """The arrays of all processes, [hosts, ...]; all of them must call it.

    Raises:
      JaxRuntimeError: if one of them is lost.
    """
    if self.num_hosts == 1:
      return np.asarray(value)[None]
    from jax.experimental import multihost_utils

    try:
      return np.asarray(multihost_utils.process_allgather(value))
    except ValueError as error:  # JAX has one for what comes back late.
      raise self._jax.errors.JaxRuntimeError(str(error)) from error

  def compile(self, text: str) -> Executable:
    """Compiles a program, or loads it if it was compiled before.

    Args:
      text: StableHLO; the attribute `mhlo.input_output_alias` of its module
        says which arguments are given up to results.

    Raises:
      ValueError: if it cannot be compiled, or does not fit into memory.
    """
    try:
      loaded = self._load(text)
    except (self._jax.errors.JaxRuntimeError, ValueError) as error:
      raise ValueError(
        f"The {self.platform} cannot run the program: {first_line(error)}"
      ) from error
    return Executable(loaded, self._joined, self._result_handler)

  def _joined(self, arrays: list[Any]) -> Any:
    """One array out of those of the devices of this process."""
    if self._sharding is None:
      return arrays[0]
    make = self._jax.make_array_from_single_device_arrays
    return make(arrays[0].shape, self._sharding, arrays)

  # Private names of JAX from here on.

  def _load(self, text: str) -> Any:
    from jax._src import compiler
    from jaxlib import _jax

    devices = np.array(self._devices, object)[:, None]
    options = compiler.get_compile_options(
      self.num_replicas, 1, devices, backend=self._backend
    )
    return compiler.compile_or_get_cached(
      self._backend,
      parse_program(text),
      devices,
      options,
      [],
      _jax.DeviceList(tuple(self._devices)),
    )

  def _result_handler(self, array: Any) -> Any:
    """Makes arrays like this one of what a program returns; see `Executable`.

    Returns:
      A handler for `ExecuteResults`. None: the arrays are on one device.
    """
    if self._sharding is None:
      return None
    from jaxlib import _jax

    return _jax.array_result_handler(array.aval, self._sharding, committed=True)


class Executable:
  """A compiled program.

  Args:
    loaded: JAX's executable.
    join: makes one array of those of several devices.
    handler: makes a handler of a result from an example.
  """

  def __init__(
    self,
    loaded: Any,
    join: Callable[[list[Any]], Any],
    handler: Callable[[Any], Any],
  ) -> None:
    self._loaded, self._join, self._handler = loaded, join, handler
    self._handlers: list[Any] | None = None

  def __call__(self, arguments: Sequence[Any]) -> list[Any]:
    """Starts the program; returns its results, which may not be ready.

    Args:
      arguments: arrays on the devices.
    """
    returned = self._loaded.execute_sharded(list(arguments))
    if self._handlers:
      return list(returned.consume_with_handlers(self._handlers))
    parts = returned.disassemble_into_single_device_arrays()
    arrays = [self._join(part) for part in parts]
    if self._handlers is None:
      handlers = [self._handler(array) for array in arrays]
      self._handlers = [h for h in handlers if h is not None]
    return arrays

  def text(self) -> str:
    """The compiled program, as XLA's own text (HLO)."""
    return "\n".join(m.to_string() for m in self._loaded.hlo_modules())


def parse_program(text: str) -> Any:
  """Parses a StableHLO text to a module of MLIR.

  Raises:
    ValueError: if it is none.
  """
  from jax._src.interpreters import mlir
  from jaxlib.mlir import ir

  try:
    return ir.Module.parse(text, mlir.make_ir_context())
  except ir.MLIRError as error:
    raise ValueError(" ".join(str(error).split())) from error


def quieten() -> None:
  """Keeps JAX from saying what it looks for, finds or connects to."""
  logging.getLogger("jax").setLevel(logging.WARNING)


def first_line(error: Exception) -> str:
  """The first line of an error; `rigl.error_text` is not in exported runs."""
  lines = [line.strip() for line in str(error).splitlines()]
  return next((line for line in lines if line), type(error).__name__)
