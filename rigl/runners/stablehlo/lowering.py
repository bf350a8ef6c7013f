# SPDX-License-Identifier: Apache-2.0
"""Lowering: the StableHLO text of a TensorFlow program.

`exported_run` compiles it for NVIDIA GPUs, `rigl.tpu_check` for TPUs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rigl.runners.program import Traceable
from rigl.types import Tensor

_ALIAS = re.compile(r"\{(\d*)\}: \((\d+), \{\}, may-alias\)")
# The same in the attributes of the module.
_ALIASES = re.compile(
  r"mhlo\.input_output_alias = \[.*?\],(?= mhlo\.is_dynamic)"
)
# Source locations of operations; file names may hold anything but quotes.
_LOCATION = re.compile(
  r' loc\((?:#loc\d*|unknown|fused\[[^\]]*\]|"(?:[^"\\]|\\.)*")\)|^#loc.*\n',
  re.MULTILINE,
)

_MODULE = re.compile(r"^module @[\w.$-]+", re.MULTILINE)
_FUNCTION = re.compile(r"func\.func (?:private |public )?@([\w.$-]+)")
_SYMBOL = re.compile(r"@([\w.$-]+)")

# Constants that count up, written out; TensorFlow makes them of `tf.range`.
_COUNTING = re.compile(
  r'stablehlo\.constant dense<"0x([0-9A-F]+)"> : (tensor<\d+xu?i32>)'
)


class LoweredProgram(NamedTuple):
  """A program as XLA sees it.

  Its parameters are the flat arguments, then the captured tensors. It returns
  its results, then the variables that it changes.

  Attributes:
    text: StableHLO.
    captured: the captured tensors, variables as their handles.
    results: names of the results in their order.
    aliases: {output: parameter} of the changed variables.
  """

  text: str
  captured: tuple[Tensor, ...]
  results: tuple[str, ...]
  aliases: dict[int, int]


def lower(program: Traceable, arguments: Mapping[str, Any]) -> LoweredProgram:
  """Lowers a program, whether or not XLA compiles it in this process.

  Args:
    program: the program; it returns tensors by name.
    arguments: example arguments, (dicts of) tensors by name.

  Raises:
    ValueError: if XLA cannot compile it, or TensorFlow is too old (2.15).
  """
  function = tf.function(
    program.function.python_function, jit_compile=True, autograph=False
  )
  values = list(arguments.values())
  concrete = function.get_concrete_function(*values)
  try:
    compiler_ir = function.experimental_get_compiler_ir(*values)
    header = compiler_ir(stage="hlo").split("\n", 1)[0]
    text = compiler_ir(stage="stablehlo")
  except (ValueError, TypeError, tf.errors.OpError) as error:
    # The lines that follow are TensorFlow's own stack, escaped or not.
    why = re.split(r"\n|\\n", str(error))[0]
    if "Invalid stage" in why:
      raise ValueError(
        f"TensorFlow {tf.__version__} writes no StableHLO; 2.21 does."
      ) from error
    raise ValueError(f"XLA cannot compile it: {why}") from error
  text = _COUNTING.sub(_as_iota, _LOCATION.sub("", text))
  text = _renamed(text)
  # The compilers of other machines do not know this operation of XLA's.
  text = text.replace("mhlo.copy", "stablehlo.optimization_barrier")
  return LoweredProgram(
    text,
    tuple(concrete.captured_inputs),
    tuple(sorted(concrete.structured_outputs)),
    {int(out or 0): int(number) for out, number in _ALIAS.findall(header)},
  )


def without_aliases(text: str) -> str:
  """Lets a program keep its arguments.

  Otherwise the variables that it changes are given up to their new values,
  whose memory is theirs.

  Args:
    text: StableHLO of `lower`.
  """
  return _ALIASES.sub("mhlo.input_output_alias = [],", text, count=1)


def _renamed(text: str) -> str:
  """Gives module and functions names that no numbering of TensorFlow changes.

  Equal programs then are equal texts, which a cache of compiled ones finds.
  """
  names = [n for n in _FUNCTION.findall(text) if n != "main"]
  numbers = {name: f"f{i}" for i, name in enumerate(names)}
  text = _MODULE.sub("module @program", text, count=1)
  return _SYMBOL.sub(lambda m: f"@{numbers.get(m[1], m[1])}", text)


def _as_iota(match: re.Match) -> str:
  """The operation that counts, instead of a constant that has counted."""
  values = np.frombuffer(bytes.fromhex(match[1]), "<i4")
  if np.array_equal(values, np.arange(len(values))):
    return f"stablehlo.iota dim = 0 : {match[2]}"
  return match[0]
