# SPDX-License-Identifier: Apache-2.0
"""Compile report: a table of costs of programs, by the TPU's compiler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from rigl.error_text import one_line
from rigl.runners.program import Lowerable
from rigl.runners.stablehlo import lowering
from rigl.tpu_check import chips
from rigl.tpu_check.collectives import Collectives
from rigl.tpu_check.compiler import CompiledProgram, CompileError

_KILO = 1000
_NAMES = {
  "train": "training step",
  "update": "mask update",
  "evaluate": "evaluation",
}


class Compiler(Protocol):
  """A compiler of programs, such as `compiler.TpuCompiler`."""

  @property
  def chip(self) -> chips.Chip:
    """The kind of TPU."""

  def compile(self, text: str, num_replicas: int = 1) -> CompiledProgram:
    """Compiles StableHLO for devices that run it together."""


class ProgramRow(NamedTuple):
  """A program and the result of its compilation.

  Attributes:
    name: name of the program.
    result: figures of the compiled program, or the reason why it failed.
  """

  name: str
  result: CompiledProgram | str


def compile_all(
  compiler: Compiler,
  programs: Mapping[str, Lowerable],
  updates: bool,
  num_replicas: int = 1,
) -> Iterable[ProgramRow]:
  """Compiles the programs of a training, one after the other.

  Args:
    compiler: compiler for the TPU.
    programs: the programs by kind, from `JaxExecutor.lowerable`.
    updates: whether the training updates masks.
    num_replicas: devices that run a program together.
  """
  for kind, name in _NAMES.items():
    if kind == "update" and not updates:
      continue
    program, arguments = programs[kind]
    try:
      text = lowering.lower(program, arguments).text
      yield ProgramRow(name, compiler.compile(text, num_replicas))
    except (ValueError, CompileError) as error:
      yield ProgramRow(name, one_line(error))


def header(chip: chips.Chip) -> str:
  """Header of a Markdown table of `ProgramRow`s."""
  cells = (
    "program",
    "compiled in (CPU time)",
    "FLOPs",
    "bytes accessed",
    f"peak HBM, of {chip.hbm_gib:.2f} GiB",
    "exchanges between cores",
  )
  return f"{_line(cells)}\n{_line(['---', *5 * ['---:']])}"


def line(row: ProgramRow, chip: chips.Chip) -> str:
  """A line of the table."""
  if isinstance(row.result, str):
    return _line([row.name, "failed", "", "", "", ""])
  figures = row.result
  gib = figures.peak_bytes / chips.GIB
  return _line(
    [
      row.name,
      f"{figures.seconds:.0f} s",
      f"{figures.flops:.3g}",
      f"{figures.bytes_accessed:.3g}",
      f"{gib:.2f} GiB ({gib / chip.hbm_gib:.0%})",
      _exchanges(figures.collectives),
    ]
  )


def failures(rows: Iterable[ProgramRow]) -> str:
  """One line with the programs that failed and why; empty if none did."""
  lines = [f"{r.name}: {r.result}" for r in rows if isinstance(r.result, str)]
  return "; ".join(lines)


def _exchanges(found: Collectives | None) -> str:
  """Number and size, such as `1 (102 MB)`."""
  if found is None:
    return "unknown"
  if not found.number:
    return "0"
  size = f"{found.num_bytes} B"
  if found.num_bytes >= _KILO:
    size = f"{found.num_bytes / _KILO**2:.3g} MB"
  return f"{found.number} ({size})"


def _line(cells: Iterable[str]) -> str:
  return "| " + " | ".join(cells) + " |"
