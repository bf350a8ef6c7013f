# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates sparse wide residual networks on CIFAR-10 or CIFAR-100.

  python rigl/cifar_resnet/resnet_train_eval.py --mode=train_and_eval \
    --training_method=rigl --mask_init_method=erdos_renyi_kernel

`cifar_settings.py` declares the flags, `cifar_trainer.py` builds the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_trainer import build_trainer
from rigl.config import app, settings
from rigl.config.device_flags import announce_role
from rigl.distribution.cluster import Role
from rigl.formats import compact
from rigl.training import evaluation
from rigl.training.trainer import Trainer


def define_flags() -> None:
  """Defines the flags of this script."""
  settings.define_flags(CifarSettings)


def main(arguments: Sequence[str]) -> None:
  """Trains or evaluates as the flags say."""
  del arguments
  with app.one_line_errors():
    role = announce_role()
    if role is Role.IS_NOT_NEEDED:
      return
    chosen = settings.read_flags(CifarSettings)
    if role is Role.EVALUATES:
      chosen = chosen.changed(mode="eval")
    trainer = _make_trainer(chosen)
    if chosen.mode == "eval":
      if compact.is_compact(chosen.initial_value_checkpoint):
        place = chosen.initial_value_checkpoint
        evaluation.evaluate_file(trainer, place)
      else:
        evaluation.evaluate_checkpoints(trainer)
      return
  trainer.train()


def make_trainer() -> Trainer:
  """Makes the trainer of the parsed flags."""
  return _make_trainer(settings.read_flags(CifarSettings))


def _make_trainer(chosen: CifarSettings) -> Trainer:
  chosen.check_runner()
  if chosen.mode == "eval":
    chosen.check_one_process(chosen.mode)
  return build_trainer(chosen)


def run() -> None:
  """Runs the script with the command line of this process."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
