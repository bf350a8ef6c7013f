# SPDX-License-Identifier: Apache-2.0
"""Compiler for devices that this machine does not have.

It uses private names of JAX, as `jax_client` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rigl.error_text import first_line
from rigl.pjrt.jax_client import parse_program


class CompileError(Exception):
  """A program does not compile or does not fit into memory."""


class TopologyCompiler:
  """The compiler for devices that this machine does not have.

  Attributes:
    num_devices: how many devices the topology has.

  Args:
    topology: its name, such as `v5e:2x2`.
    platform: such as `tpu`.
    options: of the topology.

  Raises:
    ValueError: if there is no such topology, or the platform has none.
  """

  def __init__(
    self, topology: str, platform: str, options: Mapping[str, str]
  ) -> None:
    from jax.errors import JaxRuntimeError
    from jax.experimental import topologies

    try:
      found = topologies.get_topology_desc(topology, platform, **options)
    except (JaxRuntimeError, NotImplementedError) as error:
      raise ValueError(first_line(error)) from error
    self._devices: list[Any] = list(found.devices)
    self.num_devices = len(self._devices)

  def compile(self, text: str, num_replicas: int = 1) -> Any:
    """Compiles a program.

    Args:
      text: StableHLO.
      num_replicas: devices that run it together.

    Returns:
      JAX's executable, with `cost_analysis`, `get_compiled_memory_stats` and
      `hlo_modules`.

    Raises:
      CompileError: if the devices cannot run it.
    """
    from jax._src import compiler
    from jax.errors import JaxRuntimeError
    from jaxlib import _jax

    devices = self._devices[:num_replicas]
    assignment = np.array(devices, object)[:, None]
    options = compiler.get_compile_options(num_replicas, 1, assignment)
    try:
      return devices[0].client.compile(
        parse_program(text), _jax.DeviceList(tuple(devices)), options
      )
    except (JaxRuntimeError, ValueError) as error:
      raise CompileError(first_line(error)) from error
