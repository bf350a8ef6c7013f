# SPDX-License-Identifier: Apache-2.0
"""Trains on an NVIDIA GPU where TensorFlow has none, through JAX.

  python scripts/train_on_gpu.py --task=cifar10 --folder=FOLDER \
    --action=export --training_method=rigl

Then train on the machine with the GPU, and finish here:

  python FOLDER/exported_run.py FOLDER
  python scripts/train_on_gpu.py --task=cifar10 --folder=FOLDER --action=finish

All other flags are those of the script of the task. `finish` makes the same
files as that script: metrics, checkpoint and result. `--action=all` does all
three on a machine that has TensorFlow, JAX and the GPU.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import numpy as np
from absl import flags

from rigl import file_contents, files
from rigl.cifar_resnet import resnet_train_eval
from rigl.config import app, stop_signals
from rigl.mnist import mnist_train_eval
from rigl.runners.stablehlo import record_replay
from rigl.runners.stablehlo.export import export, in_memory_parts
from rigl.training.trainer import Trainer

_TASKS: dict[str, Any] = {
  "cifar10": resnet_train_eval,
  "mnist": mnist_train_eval,
}
_FLAGS_FILE = "flags.json"
_OWN = ("task", "folder", "action", "platform")


def define_flags() -> None:
  """Defines the flags of this script and those of the task."""
  flags.DEFINE_enum("task", "cifar10", list(_TASKS), "What to train.")
  flags.DEFINE_string("folder", None, "Folder of the exported run.")
  flags.DEFINE_enum(
    "action", "all", ["export", "finish", "all"], "Which part to do."
  )
  flags.DEFINE_enum(
    "platform", "gpu", ["gpu", "cpu"], "Where --action=all runs it."
  )
  given = [a for a in sys.argv[1:] if a.lstrip("-").startswith("task=")]
  task = given[-1].split("=", 1)[1] if given else "cifar10"
  if task in _TASKS:
    _TASKS[task].define_flags()


def main(arguments: Sequence[str]) -> None:
  """Runs the action of the flags."""
  del arguments
  with app.one_line_errors():
    values = flags.FLAGS
    if not values.folder:
      raise ValueError("`--folder` must be given.")
    folder = files.on_disk(values.folder, "folder")
    if values.action in ("export", "all"):
      _export(folder)
    if values.action == "all":
      _run(folder, values.platform)
    if values.action in ("finish", "all"):
      _finish(folder)


def _run(folder: pathlib.Path, platform: str) -> None:
  """Runs an exported folder in a process that gets the stop signals as well."""
  script = folder / "exported_run.py"
  command = [sys.executable, str(script), str(folder), f"--platform={platform}"]
  with (
    subprocess.Popen(command) as process,
    stop_signals.deferred(process.send_signal),
  ):
    code = process.wait()
  if code:
    sys.exit(code if code > 0 else 128 - code)


def _export(folder: pathlib.Path) -> None:
  if (folder / _FLAGS_FILE).exists():
    raise ValueError(f"`--folder`: `{folder}` holds an exported run already.")
  trainer = _make_trainer()
  if trainer.directory.result() is not None:
    raise ValueError(f"The run in `{trainer.directory.path}` is finished.")
  trainer.state.restore(trainer.directory.path)
  export(trainer, folder)
  files.write_text(folder / _FLAGS_FILE, json.dumps(_task_flags()))
  trainer.directory.close()
  print(f"Exported to {folder}; run: python {folder}/exported_run.py {folder}")


def _finish(folder: pathlib.Path) -> None:
  if not (folder / "state-end.npz").exists():
    raise ValueError(f"`--folder`: the run in `{folder}` is not finished.")
  _restore_flags(folder)
  trainer = _make_trainer()
  if (result := trainer.directory.result()) is not None:
    print(f"The run in {trainer.directory.path} is finished.")
    print(f"Test accuracy: {result['test_accuracy']:.4f}")
    return
  results, state = _read_results(folder)
  _, source, _ = in_memory_parts(trainer)
  result = record_replay.finish(trainer, source, results, state)
  print(f"Run directory: {trainer.directory.path}")
  print(f"Test accuracy: {result['test_accuracy']:.4f}")


def _read_results(
  folder: pathlib.Path,
) -> tuple[list[record_replay.Result], dict[str, np.ndarray]]:
  """The results of all calls, and the state at the end."""
  path = folder / "results.jsonl"
  try:
    results = [json.loads(line) for line in path.read_text().splitlines()]
    path = folder / "state-end.npz"
    return results, file_contents.read_arrays(path)
  except ValueError as error:
    raise ValueError(f"`{path}` is damaged: {error}") from error


def _restore_flags(folder: pathlib.Path) -> None:
  """Gives the flags the values that a run was exported with."""
  path = folder / _FLAGS_FILE
  try:
    typed = [
      (str(name), value) for name, value in file_contents.read_json(path)
    ]
  except (TypeError, ValueError) as error:
    raise ValueError(f"`{path}` is damaged: {error}") from error
  for name, value in typed:
    try:
      flags.FLAGS[name].parse(value)
    except (KeyError, flags.Error) as error:
      raise ValueError(
        f"`--task` {flags.FLAGS.task} takes no --{name}={value}, with which "
        f"the run in `{folder}` was exported; it may be of another task."
      ) from error
    flags.FLAGS[name].present += 1


def _make_trainer() -> Trainer:
  made: Trainer = _TASKS[flags.FLAGS.task].make_trainer()
  return made


def _task_flags() -> list[tuple[str, Any]]:
  """The typed flags except those of this script."""
  values = flags.FLAGS
  return [
    (name, values[name].value)
    for name in values
    if values[name].present and name not in _OWN
  ]


if __name__ == "__main__":
  app.run(main, define_flags)
