# SPDX-License-Identifier: Apache-2.0
"""What the commands do that the recordings are of.

All that the recordings and their tests know of the package is here: the
commands of `pyproject.toml` and the imports below.
"""

from __future__ import annotations

import gc
import gzip
import importlib
import json
import os
import pathlib
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import absl.app
import gin
import numpy as np
import tensorflow as tf
from absl import flags

from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.config import settings
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist.mnist_settings import MnistSettings
from rigl.training.trainer import Trainer

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "recorded"
ROOT = FOLDER.parents[1]
FLAGS_FILE = FOLDER / "flags.json"
IDENTITY_FILE = FOLDER / "run_identity.json.gz"
RUNS_FOLDER = FOLDER / "run_directories"
SETTINGS = {
  "rigl-mnist": MnistSettings,
  "rigl-cifar10": CifarSettings,
  "rigl-imagenet": ImagenetSettings,
}
COMMANDS = (*SETTINGS, "rigl-predict", "rigl-flops")
# Stands for the directory of temporary files in a default.
_TEMPORARY = "{temporary}"


class _Stopped(BaseException):
  """Ends a command as no code of the package handles it."""


def load_json(path: pathlib.Path) -> Any:
  """What a JSON file holds, compressed or not."""
  content = path.read_bytes()
  return json.loads(
    gzip.decompress(content) if path.suffix == ".gz" else content
  )


def _entry_point(command: str) -> Any:
  """The function that a command of `pyproject.toml` calls."""
  text = (ROOT / "pyproject.toml").read_text()
  found = re.search(rf'^{command} = "([\w.]+):(\w+)"$', text, re.MULTILINE)
  assert found, f"pyproject.toml has no command {command}"
  return getattr(importlib.import_module(found[1]), found[2])


def forget_flags() -> None:
  """Removes the flags of the package, so that they can be defined again."""
  for module, defined in flags.FLAGS.flags_by_module_dict().items():
    if module.split(".")[0] == "rigl":
      for flag in list(defined):
        delattr(flags.FLAGS, flag.name)


def run(command: str, *arguments: str) -> int:
  """Runs a command in this process; returns its exit code."""
  forget_flags()
  try:
    with mock.patch.object(sys, "argv", [command, *arguments]):
      _entry_point(command)()
  except SystemExit as end:
    return end.code or 0
  finally:
    forget_flags()
    gin.clear_config()
  return 0


def defined_flags(command: str) -> dict[str, dict[str, Any]]:
  """Type, default and choices of the flags of a command, by name."""
  found: dict[str, dict[str, Any]] = {}

  def note(*arguments: Any, **options: Any) -> None:
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
      if module.split(".")[0] == "rigl":
        found.update({flag.name: _described(flag) for flag in defined})

  with mock.patch.object(absl.app, "run", note):
    run(command)
  return dict(sorted(found.items()))


def _described(flag: flags.Flag) -> dict[str, Any]:
  default = flag.default
  if isinstance(default, str) and default.startswith(tempfile.gettempdir()):
    default = _TEMPORARY + default.removeprefix(tempfile.gettempdir())
  choices = getattr(flag.parser, "enum_values", None)
  return {
    "type": flag.flag_type(),
    "default": default,
    "choices": None if choices is None else list(choices),
    "multi": isinstance(flag, flags.MultiFlag),
  }


def split(line: str) -> list[str]:
  """The arguments of a command line, with paths of configurations in full."""
  return shlex.split(line.replace("=configs/", f"={ROOT}/configs/"))


def written_before_training(line: str) -> dict[str, Any]:
  """What a run writes below the working directory before its first step.

  Args:
    line: the command line, which makes a new run.

  Returns:
    `directory`, the run's; `settings`, those of its `run.json`; `gin`, its
    `operative_config.gin`.
  """
  # Both files are there when those of TensorBoard are opened.
  writers = mock.Mock(side_effect=_Stopped)
  with mock.patch.object(tf.summary, "create_file_writer", writers):
    try:
      code = run(*split(line))
    except _Stopped:
      pass
    else:
      raise AssertionError(f"{line} ended with code {code}")
  (path,) = pathlib.Path().rglob("run.json")
  return {
    "directory": path.parent.as_posix(),
    "settings": json.loads(path.read_text())["settings"],
    "gin": (path.parent / "operative_config.gin").read_text(),
  }


def read_settings(line: str) -> dict[str, Any]:
  """As `written_before_training`, but makes no network.

  Returns:
    `settings`, without the fingerprint of the data, and `gin`, without what
    the network and its optimizer add.
  """
  command, *arguments = split(line)
  found: dict[str, Any] = {}

  def note(*_: Any, **options: Any) -> None:
    flags.FLAGS([command, *arguments])
    read = settings.read_flags(SETTINGS[command])
    found["settings"] = json.loads(json.dumps(settings.run_identity(read)))
    found["gin"] = gin.operative_config_str()

  with mock.patch.object(absl.app, "run", note):
    run(command)
  return found


def gin_sections(text: str) -> dict[str, str]:
  """The parts of an operative configuration, by what they configure."""
  parts = re.split(r"^# Parameters for (.+):\n", text, flags=re.MULTILINE)
  return dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))


def restored_state(*arguments: str) -> dict[str, np.ndarray]:
  """The variables of a run that is about to go on, as a checkpoint has them."""
  state: dict[str, np.ndarray] = {}

  prepare = Trainer.prepare

  def stop(trainer: Trainer) -> None:
    prepare(trainer)
    variables = trainer.state.all_variables
    state.update({name: v.numpy() for name, v in variables.items()})
    state["iteration"] = np.int64(trainer.state.iteration)
    trainer.directory.close()
    raise _Stopped

  with mock.patch.object(Trainer, "prepare", stop):
    try:
      run(*arguments)
    except _Stopped:
      return state
  raise AssertionError("the run did not train")


def newest_checkpoint(directory: pathlib.Path) -> dict[str, np.ndarray]:
  """All tensors of the newest checkpoint, by name."""
  reader = tf.train.load_checkpoint(str(directory))
  names = reader.get_variable_to_shape_map()
  return {name: reader.get_tensor(name) for name in names}


def files_below(directory: pathlib.Path) -> list[str]:
  """Paths of all files; those of TensorBoard without time and machine."""
  names = (
    path.relative_to(directory).as_posix()
    for path in directory.rglob("*")
    if path.is_file()
  )
  return sorted({re.sub(r"(tfevents)\..*", r"\1", name) for name in names})


def tags_below(directory: pathlib.Path) -> dict[str, list[str]]:
  """The names of what TensorBoard shows, by directory."""
  found: dict[str, set[str]] = {}
  for path in directory.rglob("events.out.tfevents.*"):
    tags = found.setdefault(
      path.parent.relative_to(directory).as_posix(), set()
    )
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      tags.update(value.tag for value in event.summary.value)
  return {kind: sorted(tags) for kind, tags in sorted(found.items())}


def only_run(directory: str | pathlib.Path) -> pathlib.Path:
  """The directory of the only run below another."""
  (found,) = pathlib.Path(directory).rglob("run.json")
  return found.parent


def configurations() -> Iterator[str]:
  """Command lines: all files in `configs/` and all training methods."""
  folders = dict(zip(SETTINGS, ("mnist", "cifar10", "imagenet"), strict=True))
  common = {
    "rigl-mnist": "--use_synthetic_data",
    "rigl-cifar10": "--use_synthetic_data",
    "rigl-imagenet": "--use_synthetic_data --output_dir=run",
  }
  # ImageNet: these say no distribution, and most methods need one.
  parts = ("base", "resnet50", "mobilenet_v1")
  erk = "--mask_init_method=erdos_renyi_kernel"
  for command, folder in folders.items():
    for path in sorted((ROOT / "configs" / folder).glob("*.gin")):
      line = (
        f"{command} {common[command]} --gin_config=configs/{folder}/{path.name}"
      )
      needs = folder == "imagenet" and path.stem in parts
      yield f"{line} {erk}" if needs else line
    method_flag = defined_flags(command)["training_method"]
    for method in method_flag["choices"]:
      line = f"{command} {common[command]} --training_method={method}"
      dense = method in ("baseline", "snip", "dnw")
      yield line if dense or folder != "imagenet" else f"{line} {erk}"


class Recorded(NamedTuple):
  """A run that is stopped when it writes its second checkpoint.

  Attributes:
    command: the command and its arguments; paths are below the working
      directory.
    is_killed: whether it ends before that checkpoint, without notice. If not,
      SIGTERM stops it after that checkpoint.
  """

  command: tuple[str, ...]
  is_killed: bool


RIGL = ("--training_method=rigl", "--maskupdate_end_step=1000")
RUNS = {
  "mnist": Recorded(
    (
      "rigl-mnist",
      *RIGL,
      "--use_synthetic_data",
      "--gin_bindings=MnistFc.units = (30, 20, 10)",
      "--save_path=run",
      "--end_sparsity=0.9",
      "--learning_rate=0.1",
      "--num_epochs=6",
      "--checkpoint_epochs=2",
      "--maskupdate_frequency=7",
      "--mask_record_frequency=5",
    ),
    is_killed=False,
  ),
  # Its first checkpoint is in the middle of an epoch.
  "cifar10": Recorded(
    (
      "rigl-cifar10",
      *RIGL,
      "--use_synthetic_data",
      "--mode=train_and_eval",
      "--train_dir=run",
      "--resnet_depth=10",
      "--resnet_width=1",
      "--batch_size=32",
      "--dataset_size=320",
      "--max_steps=7",
      "--checkpoint_steps=3",
      "--summaries_steps=2",
      "--mask_init_method=erdos_renyi_kernel",
      "--maskupdate_frequency=5",
    ),
    is_killed=True,
  ),
  # The same, and images come from files, in `data`.
  "imagenet": Recorded(
    (
      "rigl-imagenet",
      *RIGL,
      "--data_directory=data",
      "--mode=train_and_eval",
      "--output_dir=run",
      "--resnet_depth=18",
      "--width=0.1",
      "--image_size=32",
      "--num_label_classes=20",
      "--train_batch_size=4",
      "--eval_batch_size=4",
      "--num_train_images=15",
      "--num_eval_images=7",
      "--train_steps=10",
      "--steps_per_checkpoint=3",
      "--keep_checkpoint_max=1",
      "--end_sparsity=0.95",
      "--steps_per_eval=5",
      "--iterations_per_loop=2",
      "--export_model_freq=0",
      "--mask_init_method=erdos_renyi_kernel",
      "--maskupdate_frequency=4",
    ),
    is_killed=False,
  ),
}


def stop_early(recorded: Recorded) -> None:
  """Starts a run, which ends at its second checkpoint."""
  save, calls = tf.raw_ops.SaveV2, []

  def stopping(**arguments: Any) -> Any:
    calls.append(arguments)
    if len(calls) == 2 and recorded.is_killed:
      raise _Stopped
    if len(calls) == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    return save(**arguments)

  with mock.patch.object(tf.raw_ops, "SaveV2", stopping):
    try:
      assert run(*recorded.command) == 128 + signal.SIGTERM
    except _Stopped:
      assert recorded.is_killed
  gc.collect()  # Releases the directory, as the end of a process does.


def what_it_left(directory: pathlib.Path) -> dict[str, Any]:
  """What is comparable of the files of a finished run, besides tensors."""
  return {
    "files": files_below(directory),
    "metrics": (directory / "metrics.csv").read_text(),
    "result": json.loads((directory / "result.json").read_text()),
    "tags": tags_below(directory),
  }
