"""Trains and evaluates sparse networks on MNIST.

  python rigl/mnist/mnist_train_eval.py --training_method=rigl

The flags are those of `settings.py`; the loop is that of `rigl.training`.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import gin
import tensorflow as tf
from absl import logging

from rigl.methods import create_optimizer
from rigl.mnist import data_helper
from rigl.mnist.input_mask import apply_input_mask
from rigl.mnist.mask_records import MaskRecords
from rigl.mnist.mnist_model import MnistFc, MnistTask
from rigl.mnist.report import epoch_line, mask_arrays, sparsities
from rigl.mnist.settings import MnistSettings
from rigl.schedules import PiecewiseConstant
from rigl.training import command_line, settings
from rigl.training.loop import Evaluation, Loop, TrainingDivergedError
from rigl.training.metrics import MetricsWriter
from rigl.training.programs import Programs
from rigl.training.progress import Progress
from rigl.training.run_directory import RunDirectory
from rigl.training.sources import ArraySource

Variable = Any

_RUNS = pathlib.Path("rigl_runs") / "mnist"
_RECORDS_FILE = "mask_records.npz"
_BASELINE_DROPS = (60, 70, 80)
_LR_FACTOR = 3


@gin.configurable(module="rigl")
def mnist_learning_rate(
  base: float, drop_epochs: Sequence[int], steps_per_epoch: int
) -> PiecewiseConstant:
  """The learning rate, divided by 3 after each of some epochs.

  Args:
    base: the initial learning rate.
    drop_epochs: ascending epochs.
    steps_per_epoch: training steps an epoch.
  """
  return PiecewiseConstant(
    tuple(epoch * steps_per_epoch for epoch in drop_epochs),
    tuple(base / _LR_FACTOR**i for i in range(len(drop_epochs) + 1)),
  )


class MnistRun:
  """Everything a run on MNIST is made of.

  Args:
    flags: the settings.
    typed: names of the flags that the user typed.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read or the directory not be written.
  """

  def __init__(self, flags: MnistSettings, typed: frozenset[str]) -> None:
    self.flags = flags
    data = apply_input_mask(_load_data(flags), flags.input_mask_path)
    identity = settings.run_identity(flags) | {"data": fingerprint(data)}
    train = {"images": data.train_images, "labels": data.train_labels}
    test = {"images": data.test_images, "labels": data.test_labels}
    self.train_source = ArraySource(train, flags.batch_size, flags.seed)
    self.total = flags.num_epochs * self.train_source.batches_per_epoch
    self.global_step = tf.Variable(0, dtype=tf.int64, name="global_step")
    masked = flags.training_method != "baseline"
    self.model = MnistFc(data.train_images.shape[1], flags.seed, masked)
    self.learning_rate = self._learning_rate(typed)
    self.optimizer = create_optimizer(
      self._inner_optimizer(),
      self.model.kernels,
      flags.method(typed, list(self.model.kernels)),
    )
    self.directory = RunDirectory(
      flags.save_path or default_directory(flags, identity), identity
    )
    self.programs = Programs(
      MnistTask(self.model),
      self.optimizer,
      self.train_source,
      ArraySource(test, 1, flags.seed),
      self.global_step,
    )
    self.loop = Loop(
      self.programs,
      self.optimizer,
      self.global_step,
      {v.name.split(":")[0]: v for v in self.model.variables},
      self.train_source.batches_per_epoch,
      self._report,
    )
    self.records = MaskRecords()

  def train_to_end(self) -> dict[str, Any]:
    """Trains to the end; `prepare` it first.

    Returns:
      The result, which `result.json` then holds.
    """
    self.train(self.total)
    if self.total % self._checkpoint_every:
      self._save(self.total)
    self.metrics.close()
    result = self._result()
    self.directory.finish(result)
    return result

  def prepare(self) -> None:
    """Restores the newest checkpoint, if there is one, and opens the files.

    Raises:
      ValueError: if a file of the run is damaged.
      OSError: if a file cannot be read or written.
    """
    if self.loop.restore(self.directory.path):
      print(f"Resumed at iteration {self.loop.iteration}.")
    self.directory.start()
    self._start_records()
    self.metrics = MetricsWriter(self.directory.path, self.loop.iteration)
    self.loop.add_event(
      self.flags.mask_record_frequency, self._record, at_start=True
    )
    self.loop.add_event(self._checkpoint_every, self._save)

  def train(self, total: int) -> None:
    """Trains until `total` iterations are made in all."""
    self.progress = Progress(total, self.loop.iteration)
    self.loop.run(total, self.progress)
    self.progress.close()

  @property
  def _checkpoint_every(self) -> int:
    return self.flags.checkpoint_epochs * self.train_source.batches_per_epoch

  def _learning_rate(self, typed: frozenset[str]) -> PiecewiseConstant:
    first = self.flags.lr_drop_epoch
    sparse = self.flags.training_method != "baseline"
    return settings.configured(
      mnist_learning_rate,
      typed,
      {"base": "learning_rate", "drop_epochs": "lr_drop_epoch"},
      base=self.flags.learning_rate,
      drop_epochs=(first, first + 20) if sparse else _BASELINE_DROPS,
      steps_per_epoch=self.train_source.batches_per_epoch,
    )

  def _inner_optimizer(self) -> tf.compat.v1.train.Optimizer:
    def rate() -> Any:
      return self.learning_rate.at(tf.cast(self.global_step, tf.float32), tf)

    v1 = tf.compat.v1.train
    if self.flags.optimizer == "adam":
      return v1.AdamOptimizer(rate)
    if self.flags.optimizer == "sgd":
      return v1.GradientDescentOptimizer(rate)
    return v1.MomentumOptimizer(
      rate, self.flags.momentum, use_nesterov=self.flags.use_nesterov
    )

  def _report(self, found: Evaluation) -> None:
    """Writes and prints what an evaluation found."""
    regularization = float(
      self.optimizer.regularization_loss(self.model.trainable_variables)
    )
    test = dict(found.test)
    test["loss"] += regularization
    train = dict(found.train)
    train["loss"] += regularization
    train["regularization_loss"] = regularization
    train["learning_rate"] = float(self.learning_rate.at(found.step))
    masks = mask_arrays(self.optimizer)
    train.update(sparsities(masks))
    epoch = found.iteration // self.train_source.batches_per_epoch
    position = {"iteration": found.iteration, "step": found.step}
    self.metrics.write(
      found.iteration,
      {**position, "epoch": epoch},
      {**train, **found.timing},
      test,
    )
    self.progress.say(epoch_line(epoch, found.iteration, test, masks))

  def _start_records(self) -> None:
    path = self.directory.path / _RECORDS_FILE
    recorded = self.flags.mask_record_frequency and self.optimizer.layers
    if recorded and self.loop.iteration:
      self.records = MaskRecords.load(path)
      self.records.truncate(self.loop.iteration)

  def _record(self, iteration: int) -> None:
    masks = mask_arrays(self.optimizer)
    if masks:
      self.records.add(iteration, masks)

  def _save(self, iteration: int) -> None:
    """Writes records and then a checkpoint, which needs them to be there."""
    if self.records.layer_names:
      self.records.save(self.directory.path / _RECORDS_FILE)
    if self.flags.save_model:
      self.loop.save(self.directory.path)

  def _result(self) -> dict[str, Any]:
    # Nothing was evaluated if the run was killed right after its last save.
    test = self.loop.last.test if self.loop.last else self.programs.evaluate()
    return {
      "iteration": self.loop.iteration,
      "step": int(self.global_step.numpy()),
      "test_accuracy": test["accuracy"],
      "sparsity": sparsities(mask_arrays(self.optimizer)).get("sparsity", 0.0),
    }


def fingerprint(data: data_helper.MnistData) -> str:
  """A number that tells one data set from another: CRC-32 of all of it."""
  total = 0
  for array in data:
    total = zlib.crc32(array.tobytes(), total)
  return f"{total:08x}"


def default_directory(
  flags: MnistSettings, identity: dict[str, Any]
) -> pathlib.Path:
  """The directory of a run that was given none: its settings name it."""
  text = json.dumps(identity, sort_keys=True)
  digest = hashlib.sha256(text.encode()).hexdigest()[:8]
  sparse = flags.training_method != "baseline"
  sparsity = f"_{flags.end_sparsity:g}" if sparse else ""
  name = f"{flags.training_method}{sparsity}_seed{flags.seed}"
  return _RUNS / f"{name}_{digest}"


def _load_data(flags: MnistSettings) -> data_helper.MnistData:
  if flags.use_synthetic_data:
    return data_helper.synthetic_mnist(seed=flags.seed)
  return data_helper.load_mnist(flags.mnist)


def _warn_of_idle_flags(flags: MnistSettings, total: int) -> None:
  """Warns of settings that this run will not see anything of."""
  if flags.threshold_decay:
    logging.warning("--threshold_decay has no effect.")
  if flags.training_method == "baseline" and flags.mask_record_frequency:
    logging.warning("--mask_record_frequency: a dense network has no masks.")
  if flags.training_method == "prune" and flags.prune_end_step > total:
    logging.warning(
      "--prune_end_step=%d is after the last iteration, %d: the final sparsity "
      "will not be reached.",
      flags.prune_end_step,
      total,
    )


def define_flags() -> None:
  """Defines the flags of this script."""
  settings.define_flags(MnistSettings)


def main(arguments: Sequence[str]) -> None:
  """Trains as the flags say and prints the test accuracy."""
  del arguments
  with command_line.one_line_errors():
    flags, typed = settings.read_flags(MnistSettings)
    mnist_run = MnistRun(flags, typed)
    _warn_of_idle_flags(flags, mnist_run.total)
    where = mnist_run.directory.path
    result = mnist_run.directory.result()
    if result is None:
      print(f"Run directory: {where}", flush=True)
      mnist_run.prepare()
  if result is None:
    try:
      result = mnist_run.train_to_end()
    except TrainingDivergedError as error:
      command_line.fail(str(error))
  else:
    print(f"The run in {where} is finished.")
  print(f"Test accuracy: {result['test_accuracy']:.4f}")


def run() -> None:
  """Runs the script with the command line of this process."""
  command_line.run(main, define_flags)


if __name__ == "__main__":
  run()
