"""Trains and evaluates sparse wide residual networks on CIFAR-10.

  python rigl/cifar_resnet/resnet_train_eval.py --mode=train_and_eval \
    --training_method=rigl --mask_init_method=erdos_renyi_kernel

The flags are those of `settings.py`; the loop is that of `rigl.training`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import tensorflow as tf
from absl import flags as absl_flags

from rigl.cifar_resnet import cifar_data, cifar_estimator
from rigl.cifar_resnet.cifar_learner import make_learner
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_task import precision_and_recall
from rigl.config import app, settings
from rigl.data.array_source import ArraySource, fingerprint
from rigl.training import checkpoints, script, warm_start
from rigl.training.loop import Report
from rigl.training.run_directory import RunDirectory, directory_name
from rigl.training.trainer import Run, new_global_step

_RUNS = pathlib.Path("rigl_runs") / "cifar10"


class CifarRun(Run):
  """Everything a run on CIFAR-10 is made of.

  Args:
    flags: the settings.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read or the directory not be written.
  """

  def __init__(self, flags: CifarSettings) -> None:
    self.flags = flags
    data = _load_data(flags)
    identity = settings.run_identity(flags) | {"data": fingerprint(data)}
    directory = RunDirectory(
      _directory(flags, identity), identity, only_read=flags.mode == "eval"
    )
    self.model = flags.create_model()
    is_new = not checkpoints.list_numbers(directory.path)
    if flags.initial_value_checkpoint and is_new:
      names = {v.name.split(":")[0]: v for v in self.model.variables}
      warm_start.load_parameters(flags.initial_value_checkpoint, names)
    kernels, masks = self.model.kernels, None
    if flags.load_mask_dir and is_new:
      masks = warm_start.load_masks(flags.load_mask_dir, kernels)
    learner = make_learner(flags, self.model, new_global_step(), masks)
    super().__init__(
      task=learner.task,
      variables=self.model.variables,
      optimizer=learner.optimizer,
      sources=_sources(flags, data),
      global_step=learner.global_step,
      learning_rate=learner.learning_rate,
      directory=directory,
      total=flags.total_steps,
      report_every=flags.summaries_steps,
      evaluate_every=0 if flags.mode == "train" else flags.checkpoint_steps,
      save_every=flags.checkpoint_steps,
      keep=flags.keep_checkpoint_max,
      by_steps=True,
      jit_compile=_use_jit(flags.jit_compile),
    )

  _unit = "step"

  def _line(
    self, found: Report, train: dict[str, float], test: dict[str, float]
  ) -> str:
    line = (
      f"step {found.step}: train loss {train['loss']:.4f}, train accuracy "
      f"{train['accuracy']:.4f}"
    )
    if found.timing:
      line += f", {found.timing['steps_per_second']:.1f} steps/s"
    if "sparsity" in train:
      line += f", sparsity {train['sparsity']:.4f}"
    if test:
      line += (
        f"\nstep {found.step}: test loss {test['loss']:.4f}, test accuracy "
        f"{test['accuracy']:.4f}"
      )
    return line

  def _test_metrics(
    self, found: Mapping[str, float], state: Mapping[str, float]
  ) -> dict[str, float]:
    plain, rates = precision_and_recall(found)
    return super()._test_metrics(plain, state) | rates


def _directory(flags: CifarSettings, identity: dict[str, Any]) -> pathlib.Path:
  """The published place of a run below `--train_dir`, or our own."""
  sparse = flags.training_method != "baseline"
  if flags.train_dir:
    numbers: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    if sparse:
      numbers = (
        flags.end_sparsity,
        flags.maskupdate_begin_step,
        flags.maskupdate_end_step,
        flags.maskupdate_frequency,
      )
    names = [flags.training_method, *(str(number) for number in numbers)]
    return pathlib.Path(flags.train_dir, *names)
  sparsity = f"_{flags.end_sparsity:g}" if sparse else ""
  name = (
    f"wrn_{flags.resnet_depth}_{flags.resnet_width}_{flags.training_method}"
    f"{sparsity}_seed{flags.seed}"
  )
  return _RUNS / directory_name(name, identity)


def _load_data(flags: CifarSettings) -> cifar_data.CifarData:
  if flags.use_synthetic_data:
    data = cifar_data.synthetic_cifar10(seed=flags.seed)
  else:
    data = cifar_data.load_cifar10(flags.data_directory)
  size = flags.dataset_size
  return data._replace(
    train_images=data.train_images[:size], train_labels=data.train_labels[:size]
  )


def _sources(
  flags: CifarSettings, data: cifar_data.CifarData
) -> tuple[ArraySource, ArraySource]:
  train = {"images": data.train_images, "labels": data.train_labels}
  test = {"images": data.test_images, "labels": data.test_labels}
  return (
    ArraySource(train, flags.batch_size, flags.seed),
    ArraySource(test, 1, flags.seed),
  )


def _use_jit(jit_compile: str) -> bool:
  """`auto`: on a CPU the library's convolutions are faster than XLA's."""
  if jit_compile == "auto":
    return bool(tf.config.list_physical_devices("GPU"))
  return jit_compile == "true"


def define_flags() -> None:
  """Defines the flags of this script."""
  settings.define_flags(CifarSettings)


def main(arguments: Sequence[str]) -> None:
  """Trains or evaluates as the flags say."""
  del arguments
  if absl_flags.FLAGS.mode == "eval":
    script.evaluate(_make_evaluated)
  else:
    script.train(_make_trainable)


def _make_trainable() -> script.Trainable:
  run = make_run()
  if run.flags.uses_estimator:
    return cifar_estimator.by_estimator(run, run.flags)
  return run


def _make_evaluated() -> CifarRun:
  run = make_run()
  if run.flags.uses_estimator:
    cifar_estimator.evaluate(run, run.flags)
  return run


def make_run() -> CifarRun:
  """The run of the parsed flags."""
  chosen = settings.read_flags(CifarSettings)
  chosen.check_runner()
  if chosen.mode == "eval":
    chosen.check_one_process(chosen.mode)
  return chosen.in_scope(lambda: CifarRun(chosen), "batch_size")


def run() -> None:
  """Runs the script with the command line of this process."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
