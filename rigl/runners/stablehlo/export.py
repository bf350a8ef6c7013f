# SPDX-License-Identifier: Apache-2.0
"""Export of a run: compiled programs, state, data and plan in one folder.

The folder runs on another machine without TensorFlow, by `exported_run.py`,
which is copied into it.
"""

from __future__ import annotations

import gzip
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import files
from rigl.data import shuffling
from rigl.data.array_source import ArraySource
from rigl.pjrt import jax_client
from rigl.runners.evaluations import ArrayEvaluation
from rigl.runners.program import Traceable
from rigl.runners.stablehlo import exported_run, lowering, record_replay
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.training.trainer import Trainer
from rigl.types import Tensor


def export(trainer: Trainer, folder: files.Path) -> None:
  """Writes everything that a run needs from its position to its end.

  Args:
    trainer: the run, restored.
    folder: the folder to write; it gets `programs.json.gz`, `state.npz`,
      `plan.json`, `data/` and the scripts that run it.

  Raises:
    ValueError: if the run has events, its examples are not in memory, or a
      program uses what cannot be exported.
  """
  executor, source, test = in_memory_parts(trainer)
  folder = files.on_disk(folder, "folder")
  (folder / "data").mkdir(parents=True, exist_ok=True)
  # The fastest engine on the GPUs where the programs will run.
  trainer.state.optimizer.use_mask_engine("batched")
  state = trainer.state.all_variables
  data: dict[str, Any] = {
    f"{split}/{name}": tensor
    for split, part in (("train", source), ("test", test))
    for name, tensor in part.arrays.items()
  }
  calls = record_replay.make_plan(trainer, source)
  used = {call[0] for call in calls}
  programs: dict[str, Any] = {}
  constants: dict[str, np.ndarray] = {}
  for kind, (program, arguments) in executor.lowerable().items():
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
  for module in (exported_run, jax_client, shuffling):
    shutil.copy(str(module.__file__), folder)


def _savez(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  save: Any = np.savez_compressed
  save(path, **arrays)


def in_memory_parts(
  trainer: Trainer,
) -> tuple[TensorFlowExecutor, ArraySource, ArraySource]:
  """Returns the executor of a run that can be exported, and its examples.

  Returns:
    The executor, the training examples and the test examples.

  Raises:
    ValueError: if the run has events, its examples are not in memory, or a
      layer has no dense kernel.
  """
  for event in trainer.events:
    if event.every:
      raise ValueError(
        f"`{event.name}` must be 0 for an exported run, in which nothing "
        f"happens between reports, got {event.every}."
      )
  if any(la.compact is not None for la in trainer.state.optimizer.layers):
    raise ValueError("An exported run needs `sparse_compute`=none.")
  executor = trainer.executor
  if isinstance(executor, TensorFlowExecutor):
    if executor.skips:
      raise ValueError("An exported run needs `on_nonfinite`=stop.")
    source, evaluation = executor.source, executor.evaluation
    if isinstance(source, ArraySource) and isinstance(
      evaluation, ArrayEvaluation
    ):
      return executor, source, evaluation.source
  raise ValueError("An exported run needs `runner`=loop and data in memory.")


def _export_program(
  program: Traceable,
  arguments: dict[str, Tensor],
  known: dict[int, str],
  constants: dict[str, np.ndarray],
) -> dict[str, Any]:
  """The text of a program and the names of its inputs and outputs.

  Args:
    program: the program; XLA compiles it, whatever it does here.
    arguments: example arguments by name.
    known: names of captured variables (by the id of their handle) and
      tensors.
    constants: gets other captured tensors.
  """
  lowered = lowering.lower(program, arguments)
  inputs = []
  for argument, value in arguments.items():
    name = argument
    if argument not in exported_run.ARGUMENTS:
      name = f"constants/{argument}"
      constants[name] = value.numpy()
    inputs.append(name)
  for captured in lowered.captured:
    name = known.get(id(captured), "")
    if not name:
      if captured.dtype == tf.resource:
        raise ValueError(
          "A program uses a variable that the run does not know."
        )
      name = f"constants/{len(constants)}"
      constants[name] = captured.numpy()
    inputs.append(name)
  results, aliases = lowered.results, lowered.aliases
  outputs = [f"results/{name}" for name in results]
  outputs += [inputs[aliases[i]] for i in sorted(aliases)]
  if sorted(aliases) != list(range(len(results), len(outputs))):
    raise ValueError("The outputs of a program are not as expected.")
  return {"text": lowered.text, "inputs": inputs, "outputs": outputs}
