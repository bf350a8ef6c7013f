"""Trains and evaluates sparse networks on MNIST.

  python rigl/mnist/mnist_train_eval.py --training_method=rigl

The flags are those of `settings.py`; the loop is that of `rigl.training`.
"""

from __future__ import annotations

import pathlib
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
from rigl.mnist.report import epoch_line, mask_arrays
from rigl.mnist.settings import MnistSettings
from rigl.schedules import PiecewiseConstant
from rigl.training import command_line, script, settings, strategies
from rigl.training.loop import Report
from rigl.training.run import Run, new_global_step
from rigl.training.run_directory import RunDirectory, directory_name
from rigl.training.sources import ArraySource, fingerprint

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


class MnistRun(Run):
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
    source = ArraySource(train, flags.batch_size, flags.seed)
    masked = flags.training_method != "baseline"
    self.model = MnistFc(data.train_images.shape[1], flags.seed, masked)
    rate = _learning_rate(flags, typed, source.batches_per_epoch)
    global_step = new_global_step()
    optimizer = create_optimizer(
      _inner_optimizer(flags, rate, global_step),
      self.model.kernels,
      flags.method(typed, list(self.model.kernels)),
    )
    self.records = MaskRecords()
    super().__init__(
      task=MnistTask(self.model),
      variables=self.model.variables,
      optimizer=optimizer,
      sources=(source, ArraySource(test, 1, flags.seed)),
      global_step=global_step,
      learning_rate=rate,
      directory=RunDirectory(_directory(flags, identity), identity),
      total=flags.num_epochs * source.batches_per_epoch,
      report_every=source.batches_per_epoch,
      save_every=flags.checkpoint_epochs * source.batches_per_epoch,
    )

  def _add_events(self) -> None:
    frequency = self.flags.mask_record_frequency
    if frequency and self.optimizer.layers and self.loop.iteration:
      self.records = MaskRecords.load(self.directory.path / _RECORDS_FILE)
      self.records.truncate(self.loop.iteration)
    self.loop.add_event(frequency, self._record, at_start=True)
    super()._add_events()

  def check_exportable(self) -> None:
    """See the base class."""
    if self.flags.mask_record_frequency and self.optimizer.layers:
      raise ValueError(
        "`mask_record_frequency` must be 0 for an exported run, which brings "
        f"no masks back, got {self.flags.mask_record_frequency}."
      )

  def _epoch(self, iteration: int) -> float:
    return iteration // self.train_source.batches_per_epoch

  def _line(
    self, found: Report, train: dict[str, float], test: dict[str, float]
  ) -> str:
    epoch = int(self._epoch(found.iteration))
    if not test:  # The run is stopped within an epoch.
      loss = train["loss"]
      return f"epoch {epoch}, iteration {found.iteration}: loss {loss:.4f}"
    masks = mask_arrays(self.optimizer)
    return epoch_line(epoch, found.iteration, test, masks)

  def _record(self, iteration: int) -> None:
    masks = mask_arrays(self.optimizer)
    if masks:
      self.records.add(iteration, masks)

  def save(self) -> None:
    """Writes records and then a checkpoint, which needs them to be there."""
    if self.records.layer_names and self.replicas.is_chief:
      self.records.save(self.directory.path / _RECORDS_FILE)
    if self.flags.save_model:
      super().save()


def _learning_rate(
  flags: MnistSettings, typed: frozenset[str], steps_per_epoch: int
) -> PiecewiseConstant:
  first = flags.lr_drop_epoch
  sparse = flags.training_method != "baseline"
  return settings.configured(
    mnist_learning_rate,
    typed,
    {"base": "learning_rate", "drop_epochs": "lr_drop_epoch"},
    base=flags.learning_rate,
    drop_epochs=(first, first + 20) if sparse else _BASELINE_DROPS,
    steps_per_epoch=steps_per_epoch,
  )


def _inner_optimizer(
  flags: MnistSettings, learning_rate: PiecewiseConstant, step: Variable
) -> tf.compat.v1.train.Optimizer:
  def rate() -> Any:
    return learning_rate.at(tf.cast(step, tf.float32), tf)

  v1 = tf.compat.v1.train
  if flags.optimizer == "adam":
    return v1.AdamOptimizer(rate)
  if flags.optimizer == "sgd":
    return v1.GradientDescentOptimizer(rate)
  return v1.MomentumOptimizer(
    rate, flags.momentum, use_nesterov=flags.use_nesterov
  )


def _directory(flags: MnistSettings, identity: dict[str, Any]) -> pathlib.Path:
  """The directory of a run; if it was given none its settings name it."""
  if flags.save_path:
    return pathlib.Path(flags.save_path)
  sparse = flags.training_method != "baseline"
  sparsity = f"_{flags.end_sparsity:g}" if sparse else ""
  name = f"{flags.training_method}{sparsity}_seed{flags.seed}"
  return _RUNS / directory_name(name, identity)


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
  script.train(make_run)


def make_run() -> MnistRun:
  """The run of the parsed flags."""
  flags, typed = settings.read_flags(MnistSettings)
  mnist_run = strategies.in_scope(
    flags, lambda: MnistRun(flags, typed), "batch_size"
  )
  _warn_of_idle_flags(flags, mnist_run.total)
  return mnist_run


def run() -> None:
  """Runs the script with the command line of this process."""
  command_line.run(main, define_flags)


if __name__ == "__main__":
  run()
