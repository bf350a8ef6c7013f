"""Trains and evaluates sparse networks on ImageNet.

  python rigl/imagenet_resnet/imagenet_train_eval.py --mode=train_and_eval \
    --data_directory=path/to/imagenet --training_method=rigl \
    --mask_init_method=erdos_renyi_kernel --train_steps=32000

The flags are those of `settings.py`; the loop is that of `rigl.training`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from rigl.config import app, settings
from rigl.data.stream_source import DataError
from rigl.distribution import replicas
from rigl.imagenet_resnet import evaluate
from rigl.imagenet_resnet.imagenet_estimator import make_estimator_run
from rigl.imagenet_resnet.imagenet_run import ImagenetRun
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.training import script

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
    chosen = settings.read_flags(ImagenetSettings)
    chosen.check_runner()
  if chosen.mode not in _EVALUATIONS:
    make_run = make_estimator_run if chosen.uses_estimator else _make_run
    script.train(lambda: make_run(chosen))
    return
  with app.one_line_errors():
    chosen.check_one_process(chosen.mode)
    evaluation = _EVALUATIONS[chosen.mode]
    try:
      chosen.in_scope(lambda: evaluation(chosen))
    except DataError as error:
      app.fail(str(error))


def _make_run(chosen: ImagenetSettings) -> ImagenetRun:
  def make() -> ImagenetRun:
    found = replicas.Replicas()
    if found.is_tpu and "num_cores" in chosen.explicit:
      found.check_count(chosen.num_cores, "num_cores")
    return ImagenetRun(chosen)

  return chosen.in_scope(make, "train_batch_size")


def run() -> None:
  """Runs the script with the command line of this process."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
