"""Exports a run: compiled programs, state, data and plan, for another machine.

What lies in the folder runs without TensorFlow, through `exported_run.py`,
which is put beside it.
"""

from __future__ import annotations

import gzip
import json
import pathlib
import re
import shutil
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.training import exported_run, files, orders, plan
from rigl.training.base_programs import Program
from rigl.training.run import Run

Tensor = Any

_ALIAS = re.compile(r"\{(\d*)\}: \((\d+), \{\}, may-alias\)")
# Where an operation came from; file names may hold anything but quotes.
_LOCATION = re.compile(
  r' loc\((?:#loc\d*|unknown|fused\[[^\]]*\]|"(?:[^"\\]|\\.)*")\)|^#loc.*\n',
  re.MULTILINE,
)

# Constants in full; TensorFlow makes them of `tf.range`.
_COUNTING = re.compile(
  r'stablehlo\.constant dense<"0x([0-9A-F]+)"> : (tensor<\d+xu?i32>)'
)


def export(run: Run, folder: files.Path) -> None:
  """Writes all that a run needs from where it is to its end.

  Args:
    run: the run, prepared.
    folder: where to; it gets `programs.json.gz`, `state.npz`, `plan.json`,
      `data/` and the scripts that run it.

  Raises:
    ValueError: if a program uses what cannot be exported, or the run records
      what would not come back.
  """
  run.check_exportable()
  folder = pathlib.Path(folder)
  (folder / "data").mkdir(parents=True, exist_ok=True)
  run.optimizer.batch_layers = True  # Faster where the programs will run.
  state, data, calls = run.all_variables, _data(run), plan.make_plan(run)
  used = {call[0] for call in calls}
  programs: dict[str, Any] = {}
  constants: dict[str, np.ndarray] = {}
  for kind, (program, arguments) in run.programs.exportable().items():
    if kind not in used:
      continue
    known = {id(v.handle): f"state/{name}" for name, v in state.items()}
    known |= {id(tensor): f"data/{name}" for name, tensor in data.items()}
    programs[kind] = _export_program(program, arguments, known, constants)
  for name, tensor in data.items():
    np.save(folder / "data" / name.replace("/", "_"), tensor.numpy())
  with gzip.open(folder / "programs.json.gz", "wt") as file:
    json.dump(programs, file)
  _savez(folder / "constants.npz", constants)
  _savez(folder / "state.npz", {name: v.numpy() for name, v in state.items()})
  source = run.train_source
  files.write_text(
    folder / "plan.json",
    json.dumps(
      {
        "calls": calls,
        "seed": source.seed,
        "num_examples": source.num_examples,
        "batch_size": source.batch_size,
      }
    ),
  )
  for module in (exported_run, orders):
    shutil.copy(str(module.__file__), folder)


def _savez(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  save: Any = np.savez_compressed
  save(path, **arrays)


def _data(run: Run) -> dict[str, Tensor]:
  splits = {"train": run.train_source, "test": run.test_source}
  return {
    f"{split}/{name}": tensor
    for split, source in splits.items()
    for name, tensor in source.arrays.items()
  }


def _export_program(
  program: Program,
  arguments: dict[str, Tensor],
  known: dict[int, str],
  constants: dict[str, np.ndarray],
) -> dict[str, Any]:
  """The text of a program and the names of what goes in and comes out.

  Args:
    program: the program; XLA compiles it, whatever it does here.
    arguments: example arguments by name.
    known: names of captured variables (by the id of their handle) and
      tensors.
    constants: gets other captured tensors.
  """
  function = tf.function(
    program.function.python_function, jit_compile=True, autograph=False
  )
  values = list(arguments.values())
  concrete = function.get_concrete_function(*values)
  inputs = []
  for argument, value in arguments.items():
    name = argument
    if argument not in exported_run.ARGUMENTS:
      name = f"constants/{argument}"
      constants[name] = value.numpy()
    inputs.append(name)
  for captured in concrete.captured_inputs:
    name = known.get(id(captured), "")
    if not name:
      if captured.dtype == tf.resource:
        raise ValueError(
          "A program uses a variable that the run does not know."
        )
      name = f"constants/{len(constants)}"
      constants[name] = captured.numpy()
    inputs.append(name)
  compiler_ir = function.experimental_get_compiler_ir(*values)
  aliases = {
    int(output or 0): inputs[int(parameter)]
    for output, parameter in _ALIAS.findall(
      compiler_ir(stage="hlo").split("\n", 1)[0]
    )
  }
  results = sorted(concrete.structured_outputs)
  outputs = [f"results/{name}" for name in results]
  outputs += [aliases[i] for i in sorted(aliases)]
  if sorted(aliases) != list(range(len(results), len(outputs))):
    raise ValueError("The outputs of a program are not as expected.")
  text = compiler_ir(stage="stablehlo")
  text = _COUNTING.sub(_as_iota, _LOCATION.sub("", text))
  # The compilers of other machines do not know this operation of XLA's.
  text = text.replace("mhlo.copy", "stablehlo.optimization_barrier")
  return {"text": text, "inputs": inputs, "outputs": outputs}


def _as_iota(match: re.Match) -> str:
  """The operation that counts, instead of a constant that has counted."""
  values = np.frombuffer(bytes.fromhex(match[1]), "<i4")
  if np.array_equal(values, np.arange(len(values))):
    return f"stablehlo.iota dim = 0 : {match[2]}"
  return match[0]
