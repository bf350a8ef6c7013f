# SPDX-License-Identifier: Apache-2.0
"""Compiles a training for a TPU, on a machine without one.

  python scripts/tpu_compile_check.py --topology=v5e:2x2 --model=resnet50 \
    --training_method=rigl --precision=bfloat16 --per_core_batch=256

The TPU's own compiler, libtpu, takes the programs that the cores run with
--runner=jax: training step, mask update and evaluation of one batch (of many
for MNIST and CIFAR-10, whose data is in the memory of the device). A table
shows the processor time of each compilation, and cost, memory and exchanges
between cores of each program. If a program does not
compile or fit, it is named and the exit code is 1. It needs the extra
`tpu-check`.

The other flags are those of the script of the model. The default of
--gin_config is RigL at 90 % sparsity with ERK (98 % for MNIST).
"""

from __future__ import annotations

import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from absl import flags

from rigl.cifar_resnet import cifar_trainer
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.config import app, settings
from rigl.counting.architectures import tables
from rigl.imagenet_resnet import imagenet_trainer
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.models import vgg
from rigl.mnist import mnist_trainer
from rigl.mnist.mnist_settings import MnistSettings
from rigl.runners.jax.executor import JaxExecutor
from rigl.tpu_check import chips, compile_report
from rigl.tpu_check.compiler import TpuCompiler
from rigl.training.trainer import Trainer

# The most virtual devices of this machine's CPU.
_MAX_CORES = 64
_RUNNER = {"runner": "jax", "compilation_cache": "none"}
_CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
_WRN = re.compile(r"wrn_(\d+)_(\d+)")


class CompileTarget(NamedTuple):
  """A script whose programs can be compiled.

  Attributes:
    settings: dataclass of its flags.
    build: builds its trainer from the settings.
    batch_flags: the flags that a batch of one core decides.
    batch: the default of such a batch.
    config: the default of `--gin_config`, in `configs/`.
    place: makes flags of a new folder for data and output.
  """

  settings: Any
  build: Callable[[Any], Trainer]
  batch_flags: tuple[str, ...]
  batch: int
  config: str
  place: Callable[[pathlib.Path], Mapping[str, Any]]


def _cifar_place(folder: pathlib.Path) -> dict[str, Any]:
  """Black images, as many as the data set has: the programs hold the data."""
  for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
    with (folder / f"{name}.bin").open("wb") as file:
      file.truncate(10000 * (1 + 32 * 32 * 3))
  return {"train_dir": f"{folder}/run", "data_directory": str(folder)}


IMAGENET = CompileTarget(
  ImagenetSettings,
  imagenet_trainer.build_trainer,
  ("train_batch_size", "eval_batch_size"),
  256,
  "imagenet/resnet50_rigl_erk_0.9_1x.gin",
  lambda folder: {
    "output_dir": str(folder),
    "use_folder_stub": False,
    "use_synthetic_data": True,
    "jit_compile": "true",
  },
)
CIFAR = CompileTarget(
  CifarSettings,
  cifar_trainer.build_trainer,
  ("batch_size",),
  128,
  "cifar10/rigl_erk_0.9.gin",
  _cifar_place,
)
MNIST = CompileTarget(
  MnistSettings,
  mnist_trainer.build_trainer,
  ("batch_size",),
  100,
  "mnist/rigl.gin",
  lambda folder: {"save_path": str(folder)},
)
_NAMED: dict[str, tuple[CompileTarget, dict[str, Any]]] = {
  **{
    f"resnet{depth}": (
      IMAGENET,
      {"model_architecture": "resnet", "resnet_depth": depth},
    )
    for depth in tables.RESNETS
  },
  **{
    name: (IMAGENET, {"model_architecture": name})
    for name in ("mobilenet_v1", "mobilenet_v2", *vgg.NAMES)
  },
  "mnist": (MNIST, {}),
}


def find_model(name: str) -> tuple[CompileTarget, dict[str, Any]]:
  """The task of a model and the flags that its name stands for.

  Raises:
    ValueError: if there is no such model.
  """
  if wide := _WRN.fullmatch(name):
    depth, width = int(wide[1]), int(wide[2])
    return CIFAR, {"resnet_depth": depth, "resnet_width": width}
  if name not in _NAMED:
    raise ValueError(
      f"`model` must be one of {[*_NAMED, 'wrn_DEPTH_WIDTH']}, got {name!r}."
    )
  return _NAMED[name]


def define_flags() -> None:
  """Defines the flags of this script and those of the model's."""
  names = ", ".join([*_NAMED, "wrn_DEPTH_WIDTH"])
  flags.DEFINE_string(
    "topology",
    "v5e:2x2",
    "TPU and its chips in each dimension; the chips: "
    f"{', '.join(chips.CHIPS)}.",
  )
  flags.DEFINE_integer(
    "cores", 0, "How many cores of it train together. 0: all, at most 64."
  )
  flags.DEFINE_string("model", "resnet50", f"One of {names}.")
  flags.DEFINE_integer(
    "per_core_batch",
    0,
    "Images per batch of one core. 0: ImageNet 256, CIFAR-10 128, MNIST 100.",
  )
  try:
    task, _ = find_model(_typed_model(sys.argv[1:]))
  except ValueError:
    task = IMAGENET  # `prepare` reports the error.
  settings.define_flags(task.settings)


def _typed_model(arguments: Sequence[str]) -> str:
  """The model of a command line that is not parsed yet."""
  found = re.findall(r"(?:^|\n)--?model[=\n](.*)", "\n".join(arguments))
  return found[-1] if found else "resnet50"


def prepare(folder: pathlib.Path) -> Callable[[int], Trainer]:
  """Checks the parsed flags.

  Args:
    folder: the folder for data and output.

  Returns:
    A function of the number of cores that builds their trainer.

  Raises:
    ValueError: if a flag is wrong.
  """
  values = flags.FLAGS
  chips.parse(values.topology)
  task, own = find_model(values.model)
  size = values.per_core_batch or task.batch
  if size < 1:
    raise ValueError(f"`per_core_batch` must be at least 1, got {size}.")
  if not 0 <= values.cores <= _MAX_CORES:
    raise ValueError(
      f"`cores` must be in [0, {_MAX_CORES}], got {values.cores}."
    )
  own = own | dict.fromkeys(task.batch_flags, size) | _RUNNER
  for name, value in {**own, **task.place(folder)}.items():
    if values[name].present:
      raise ValueError(f"`{name}` cannot be given: this script sets it.")
    values[name].parse(str(value))
    values[name].present += 1
  if not values["gin_config"].present:
    values.gin_config = [str(_CONFIGS / task.config)]
  chosen = settings.read_flags(task.settings)

  def build(cores: int) -> Trainer:
    # As many devices of this machine, for which nothing is compiled.
    sizes = dict.fromkeys(task.batch_flags, cores * size)
    devices: dict[str, Any] = {"strategy": "default"}
    if cores > 1:
      devices = {"strategy": "mirrored", "virtual_devices": cores}
    return task.build(chosen.changed(**sizes, **devices))

  return build


def main(arguments: Sequence[str]) -> None:
  """Compiles and prints a table."""
  del arguments
  with (
    app.one_line_errors(),
    tempfile.TemporaryDirectory() as folder,
  ):
    build = prepare(pathlib.Path(folder))
    compiler = TpuCompiler(flags.FLAGS.topology)
    cores = flags.FLAGS.cores or min(compiler.num_devices, _MAX_CORES)
    if cores > compiler.num_devices:
      raise ValueError(
        f"`cores` must be at most {compiler.num_devices} for this `topology`, "
        f"got {cores}."
      )
    trainer = build(cores)
    trainer.directory.close()
  executor = trainer.executor
  assert isinstance(executor, JaxExecutor)
  updates = trainer.state.optimizer.steps_to_update(0) is not None
  print(compile_report.header(compiler.chip), flush=True)
  rows = []
  programs = executor.lowerable()
  for row in compile_report.compile_all(compiler, programs, updates, cores):
    print(compile_report.line(row, compiler.chip), flush=True)
    rows.append(row)
  if found := compile_report.failures(rows):
    app.fail(found)


if __name__ == "__main__":
  app.run(main, define_flags)
