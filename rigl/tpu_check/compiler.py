# SPDX-License-Identifier: Apache-2.0
"""The TPU's own compiler, libtpu, called through JAX without a TPU.

It compiles StableHLO programs, which `rigl.runners.stablehlo` makes.
"""

from __future__ import annotations

import importlib.util
import os
import time
from typing import Any, NamedTuple

from rigl.tpu_check import chips

# Without these variables libtpu searches for a TPU of this machine for minutes.
_ENVIRONMENT = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # Any; the topology decides.
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # A compiler does not occupy the TPU.
  "JAX_PLATFORMS": "cpu",
}
_NO_MEMORY = "RESOURCE_EXHAUSTED"


class CompiledProgram(NamedTuple):
  """Figures of a compiled program.

  Attributes:
    seconds: processor time of the compilation.
    flops: floating-point operations of one call; the body of a loop counts
      once.
    bytes_accessed: bytes of memory accessed; the body of a loop counts once.
    peak_bytes: peak memory: arguments, results that do not reuse an argument,
      temporaries and the program itself.
  """

  seconds: float
  flops: float
  bytes_accessed: float
  peak_bytes: int


class CompileError(Exception):
  """A program does not compile or does not fit into memory."""


class TpuCompiler:
  """Compiles for one device of a topology.

  Attributes:
    chip: the kind of TPU.

  Args:
    topology: chip and chips per dimension, such as `v5e:2x2`.

  Raises:
    ValueError: if the topology is unknown, or JAX or libtpu are missing.
  """

  def __init__(self, topology: str) -> None:
    self.chip = chips.parse(topology)
    check_installed()
    # Before JAX is imported.
    os.environ.update(_ENVIRONMENT)
    from jax.errors import JaxRuntimeError
    from jax.experimental import topologies

    options = {}
    if self.chip.config:
      options["chip_config_name"] = self.chip.config
    try:
      found = topologies.get_topology_desc(topology, "tpu", **options)
    except JaxRuntimeError as error:
      raise ValueError(
        f"`topology`: libtpu does not take {topology!r}: {first_line(error)}"
      ) from error
    self._device: Any = found.devices[0]

  def compile(self, text: str) -> CompiledProgram:
    """Compiles a program.

    Args:
      text: StableHLO.

    Raises:
      CompileError: if the TPU cannot run it.
    """
    from jax.errors import JaxRuntimeError
    from jax.interpreters import mlir
    from jaxlib import xla_client
    from jaxlib.mlir import ir

    devices = xla_client.DeviceList((self._device,))
    options = xla_client.CompileOptions()
    start = time.process_time()
    try:
      module = ir.Module.parse(text, mlir.make_ir_context())
      executable = self._device.client.compile(module, devices, options)
    except (JaxRuntimeError, ir.MLIRError) as error:
      raise CompileError(explained(error)) from error
    seconds = time.process_time() - start
    return measured(executable, seconds, self.chip)


def measured(
  executable: Any, seconds: float, chip: chips.Chip
) -> CompiledProgram:
  """Reads the figures of a compiled program.

  Raises:
    CompileError: if the program does not fit into memory.
  """
  costs = executable.cost_analysis()
  memory = executable.get_compiled_memory_stats()
  peak = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes
  )
  if peak > chip.hbm_gib * chips.GIB:
    raise CompileError(
      f"does not fit: it needs {peak / chips.GIB:.2f} GiB of the "
      f"{chip.hbm_gib:.2f} GiB of memory"
    )
  return CompiledProgram(seconds, costs["flops"], costs["bytes accessed"], peak)


def check_installed() -> None:
  """Raises a ValueError unless JAX and libtpu are installed."""
  missing = [
    name for name in ("jax", "libtpu") if not importlib.util.find_spec(name)
  ]
  if missing:
    raise ValueError(
      f"{' and '.join(missing)} must be installed for this: pip install "
      "'.[tpu-check]' (Linux on x86-64, Python 3.11 or later)."
    )


def explained(error: Exception) -> str:
  """The message of a compiler's error in one line."""
  text = first_line(error)
  if _NO_MEMORY in text:
    return f"does not fit: {text.split(': ', 1)[1]}"
  return f"does not compile: {text}"


def first_line(error: Exception) -> str:
  """The first line of an error that is not empty."""
  lines = [line.strip() for line in str(error).splitlines()]
  return next((line for line in lines if line), type(error).__name__)
