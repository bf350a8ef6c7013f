# SPDX-License-Identifier: Apache-2.0
"""JAX client: compiles StableHLO and runs it on one device.

All use of JAX is here, with the two private names that it needs (JAX has no
public function that compiles a StableHLO text). It is copied into exported
folders and needs NumPy and JAX alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np


class Device:
  """One device, and programs on it.

  Args:
    platform: `cpu` or `gpu`. None: JAX's choice.
  """

  def __init__(self, platform: str | None) -> None:
    # Several runs share a card.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    from jax.extend import backend

    jax.config.update("jax_enable_x64", True)
    self._jax = jax
    self._client = backend.get_backend(platform)
    self._device = self._client.local_devices()[0]

  def put(self, value: np.ndarray | np.generic) -> Any:
    """Copies an array to the device."""
    return self._jax.device_put(np.asarray(value), self._device)

  def compile(
    self, text: str, inputs: list[str], outputs: list[str]
  ) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Compiles a program.

    Args:
      text: StableHLO.
      inputs: names of the arguments.
      outputs: names of what it returns: `results/...` and changed inputs.

    Returns:
      A function of values by name. It changes them and returns the results.
    """
    executable = self._load(text)

    def call(values: dict[str, Any]) -> dict[str, Any]:
      arguments = [values[name] for name in inputs]
      returned = executable.execute_sharded(arguments)
      arrays = returned.disassemble_into_single_device_arrays()
      results = {}
      for name, (array,) in zip(outputs, arrays, strict=True):
        kind, _, rest = name.partition("/")
        if kind == "results":
          results[rest] = array
        else:
          values[name] = array
      return results

    return call

  def _load(self, text: str) -> Any:
    """Compiles a StableHLO text, by private names of JAX."""
    from jax._src import compiler
    from jaxlib import _jax

    options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    devices = _jax.DeviceList((self._device,))
    return self._client.compile_and_load(text, devices, options)
