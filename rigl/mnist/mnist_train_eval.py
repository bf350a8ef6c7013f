# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates sparse networks on MNIST.

  python rigl/mnist/mnist_train_eval.py --training_method=rigl

`mnist_settings.py` declares the flags, `mnist_trainer.py` builds the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from absl import logging

from rigl.config import app, settings
from rigl.config.device_flags import announce_role
from rigl.distribution.cluster import Role
from rigl.mnist.mnist_settings import MnistSettings
from rigl.mnist.mnist_trainer import build_trainer
from rigl.sparse_optimizers import registry
from rigl.training import evaluation
from rigl.training.trainer import Trainer


def define_flags() -> None:
  """Defines the flags of this script."""
  settings.define_flags(MnistSettings)


def main(arguments: Sequence[str]) -> None:
  """Trains as the flags say, or evaluates as the evaluator of a cluster."""
  del arguments
  with app.one_line_errors():
    role = announce_role()
    if role is Role.IS_NOT_NEEDED:
      return
    trainer = make_trainer(evaluates=role is Role.EVALUATES)
    if role is Role.EVALUATES:
      evaluation.evaluate_checkpoints(trainer)
      return
  trainer.train()


def make_trainer(evaluates: bool = False) -> Trainer:
  """Makes the trainer of the parsed flags.

  Args:
    evaluates: whether it only evaluates what another process trains.
  """
  flags = settings.read_flags(MnistSettings)
  flags.check_runner()
  trainer = build_trainer(flags, evaluates)
  _warn_of_ignored_flags(flags, trainer.intervals.total)
  return trainer


def _warn_of_ignored_flags(flags: MnistSettings, total: int) -> None:
  """Warns of settings that have no effect in this run."""
  if flags.training_method == registry.BASELINE and flags.mask_record_frequency:
    logging.warning("--mask_record_frequency: a dense network has no masks.")
  if flags.training_method == "prune" and flags.prune_end_step > total:
    logging.warning(
      "--prune_end_step=%d is after the last iteration, %d: the final sparsity "
      "will not be reached.",
      flags.prune_end_step,
      total,
    )


def run() -> None:
  """Runs the script with the command line of this process."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
