"""Trains and evaluates sparse networks on ImageNet.

  python rigl/imagenet_resnet/imagenet_train_eval.py --mode=train_and_eval \
    --data_directory=path/to/imagenet --training_method=rigl \
    --mask_init_method=erdos_renyi_kernel --train_steps=32000

`imagenet_settings.py` has the flags, `imagenet_trainer.py` what they build.
"""

from __future__ import annotations

from collections.abc import Sequence

from rigl.config import onednn  # noqa: F401

# isort: split
from absl import logging

from rigl.config import app, runner_flag, settings
from rigl.data.stream_source import DataError
from rigl.distribution import strategies
from rigl.imagenet_resnet import evaluate
from rigl.imagenet_resnet.imagenet_settings import (
  ESTIMATOR_FLAGS,
  IDLE_FLAGS,
  ImagenetSettings,
)
from rigl.imagenet_resnet.imagenet_trainer import build_trainer

_EVALUATIONS = {
  "eval": evaluate.evaluate_all,
  "eval_once": evaluate.evaluate_once,
}


def define_flags() -> None:
  """Defines the flags of this script."""
  settings.define_flags(ImagenetSettings)


def main(arguments: Sequence[str]) -> None:
  """Trains or evaluates as the flags say."""
  del arguments
  with app.one_line_errors():
    chosen, typed = settings.read_flags(ImagenetSettings)
    runner_flag.check_tensorflow(chosen.runner)
    _warn_of_ignored_flags(chosen, typed)
    if chosen.mode in _EVALUATIONS:
      _evaluate(chosen, typed)
      return
    trainer = build_trainer(chosen, typed)
  trainer.train()


def _evaluate(chosen: ImagenetSettings, typed: frozenset[str]) -> None:
  strategies.refuse_workers(chosen, chosen.mode)
  with strategies.scope(chosen):
    try:
      _EVALUATIONS[chosen.mode](chosen, typed)
    except DataError as error:
      app.fail(str(error))


def _warn_of_ignored_flags(
  chosen: ImagenetSettings, typed: frozenset[str]
) -> None:
  by_loop = chosen.runner == runner_flag.LOOP
  for name in IDLE_FLAGS + (ESTIMATOR_FLAGS if by_loop else ()):
    if name in typed:
      logging.warning("--%s has no effect.", name)


def run() -> None:
  """Runs the script with the command line of this process."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
