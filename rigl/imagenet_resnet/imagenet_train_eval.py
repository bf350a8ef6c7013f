# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates sparse networks on ImageNet.

  python rigl/imagenet_resnet/imagenet_train_eval.py --mode=train_and_eval \
    --data_directory=path/to/imagenet --training_method=rigl \
    --mask_init_method=erdos_renyi_kernel --train_steps=32000

`imagenet_settings.py` joins the flags, `imagenet_trainer.py` builds the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from rigl.config import app, settings
from rigl.config.device_flags import announce_role
from rigl.data.stream_source import DataError
from rigl.distribution.cluster import Role
from rigl.imagenet_resnet import evaluate
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
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
    role = announce_role()
    if role is Role.IS_NOT_NEEDED:
      return
    chosen = settings.read_flags(ImagenetSettings)
    chosen.check_runner()
    if role is Role.EVALUATES and chosen.mode not in _EVALUATIONS:
      chosen = chosen.changed(mode="eval")
    if chosen.mode in _EVALUATIONS:
      _evaluate(chosen)
      return
    trainer = build_trainer(chosen)
  trainer.train()


def _evaluate(chosen: ImagenetSettings) -> None:
  chosen.check_one_process(chosen.mode)
  with chosen.scope() as replicas:
    try:
      _EVALUATIONS[chosen.mode](chosen, replicas)
    except DataError as error:
      app.fail(str(error))


def run() -> None:
  """Runs the script with the command line of this process."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
