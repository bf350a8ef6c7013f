# SPDX-License-Identifier: Apache-2.0
"""The TPU's own compiler, libtpu, called through JAX without a TPU.

It compiles StableHLO programs, which `rigl.runners.stablehlo` makes.
"""

from __future__ import annotations

import importlib.util
import os
import time
from typing import Any, NamedTuple

from rigl.error_text import first_line
from rigl.pjrt.topology_compiler import CompileError, TopologyCompiler
from rigl.tpu_check import chips
from rigl.tpu_check.collectives import Collectives, find_collectives

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
    collectives: exchanges between devices. None: JAX cannot read the program
      that a newer libtpu has made.
  """

  seconds: float
  flops: float
  bytes_accessed: float
  peak_bytes: int
  collectives: Collectives | None = Collectives(0, 0)


class TpuCompiler:
  """Compiles for the devices of a topology.

  Attributes:
    chip: the kind of TPU.
    num_devices: how many devices the topology has.

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
    options = {}
    if self.chip.config:
      options["chip_config_name"] = self.chip.config
    try:
      self._topology = TopologyCompiler(topology, "tpu", options)
    except ValueError as error:
      raise ValueError(
        f"`topology`: libtpu does not take {topology!r}: {error}"
      ) from error
    self.num_devices = self._topology.num_devices

  def compile(self, text: str, num_replicas: int = 1) -> CompiledProgram:
    """Compiles a program.

    Args:
      text: StableHLO.
      num_replicas: devices that run it together.

    Raises:
      CompileError: if the TPU cannot run it.
    """
    start = time.process_time()
    try:
      executable = self._topology.compile(text, num_replicas)
    except CompileError as error:
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
  return CompiledProgram(
    seconds,
    costs["flops"],
    costs["bytes accessed"],
    peak,
    _collectives_of(executable),
  )


def _collectives_of(executable: Any) -> Collectives | None:
  try:
    texts = [module.to_string() for module in executable.hlo_modules()]
  except RuntimeError:  # What JAX's error is derived from.
    return None
  return find_collectives("\n".join(texts))


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
