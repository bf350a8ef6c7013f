"""Trains and evaluates sparse networks on MNIST.

  python rigl/mnist/mnist_train_eval.py --training_method=rigl

The flags are those of `settings.py`; the loop is that of `rigl.training`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from absl import logging

from rigl.config import app, settings
from rigl.data.array_source import ArraySource, fingerprint
from rigl.mnist import mnist_data
from rigl.mnist.epoch_report import epoch_line, mask_arrays
from rigl.mnist.input_mask import apply_input_mask
from rigl.mnist.mask_records import MaskRecords
from rigl.mnist.mnist_estimator import by_estimator
from rigl.mnist.mnist_learner import make_learner, make_model
from rigl.mnist.mnist_settings import MnistSettings
from rigl.training import script
from rigl.training.loop import Report
from rigl.training.run_directory import RunDirectory, directory_name
from rigl.training.trainer import Run, new_global_step

_RUNS = pathlib.Path("rigl_runs") / "mnist"
_RECORDS_FILE = "mask_records.npz"


class MnistRun(Run):
  """Everything a run on MNIST is made of.

  Args:
    flags: the settings.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read or the directory not be written.
  """

  def __init__(self, flags: MnistSettings) -> None:
    self.flags = flags
    data = apply_input_mask(_load_data(flags), flags.input_mask_path)
    identity = settings.run_identity(flags) | {"data": fingerprint(data)}
    train = {"images": data.train_images, "labels": data.train_labels}
    test = {"images": data.test_images, "labels": data.test_labels}
    source = ArraySource(train, flags.batch_size, flags.seed)
    self.model = make_model(flags, data.train_images.shape[1])
    learner = make_learner(
      flags, self.model, source.batches_per_epoch, new_global_step()
    )
    self.records = MaskRecords()
    super().__init__(
      task=learner.task,
      variables=self.model.variables,
      optimizer=learner.optimizer,
      sources=(source, ArraySource(test, 1, flags.seed)),
      global_step=learner.global_step,
      learning_rate=learner.learning_rate,
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


def _directory(flags: MnistSettings, identity: dict[str, Any]) -> pathlib.Path:
  """The directory of a run; if it was given none its settings name it."""
  if flags.save_path:
    return pathlib.Path(flags.save_path)
  sparse = flags.training_method != "baseline"
  sparsity = f"_{flags.end_sparsity:g}" if sparse else ""
  name = f"{flags.training_method}{sparsity}_seed{flags.seed}"
  return _RUNS / directory_name(name, identity)


def _load_data(flags: MnistSettings) -> mnist_data.MnistData:
  if flags.use_synthetic_data:
    return mnist_data.synthetic_mnist(seed=flags.seed)
  return mnist_data.load_mnist(flags.mnist)


def _warn_of_idle_flags(flags: MnistSettings, total: int) -> None:
  """Warns of settings that this run will not see anything of."""
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
  script.train(_make_trainable)


def _make_trainable() -> script.Trainable:
  mnist_run = make_run()
  if mnist_run.flags.uses_estimator:
    return by_estimator(mnist_run, mnist_run.flags)
  return mnist_run


def make_run() -> MnistRun:
  """The run of the parsed flags."""
  flags = settings.read_flags(MnistSettings)
  flags.check_runner()
  mnist_run = flags.in_scope(lambda: MnistRun(flags), "batch_size")
  _warn_of_idle_flags(flags, mnist_run.total)
  return mnist_run


def run() -> None:
  """Runs the script with the command line of this process."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
