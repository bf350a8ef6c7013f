# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker of all three scripts: their runs, with their default flags.

It uses all cores, by the defaults of TensorFlow; no thread number is set.
"""

import atexit
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import ours_imagenet
import protocol
import tensorflow as tf

from rigl.cifar_resnet import cifar_trainer
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.mnist import mnist_trainer
from rigl.mnist.mnist_settings import MnistSettings
from rigl.training.trainer import Trainer

# How often a check is repeated, whose median counts.
_CHECKS = 5


def steps(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Gradient steps of a script, with their share of its checks of the state.

  The state is checked before every report and every checkpoint.

  Args:
    settings: the settings of `nonfinite_check.py`.

  Returns:
    The unit and its information.
  """
  trainer = _MAKERS[settings["script"]](settings)
  trainer.prepare()
  count, intervals = settings["steps"], trainer.intervals
  distances = [n for n in (intervals.report, intervals.save) if n]
  checks_per_step = sum(1 / n for n in distances)
  info: dict[str, Any] = {"library": f"tensorflow {tf.__version__}"}

  def unit() -> float:
    seconds = _seconds(lambda: _advance(trainer, count)) / count
    if settings["is_checked"]:
      check = trainer.loop.check_state
      cost = statistics.median(_seconds(check) for _ in range(_CHECKS))
      info["check_ms"] = 1e3 * cost
      seconds += checks_per_step * cost
    return seconds

  unit()
  unit()  # Later checks are faster than the first.
  info["steps_per_check"] = 1 / checks_per_step
  return unit, info


def _advance(trainer: Trainer, count: int) -> None:
  """Makes gradient steps without the events of the loop."""
  state, done = trainer.state, 0
  while done < count:
    progress = trainer.executor.advance(state.iteration, count - done)
    state.iteration += progress.iterations
    done += progress.steps


def _mnist(settings: protocol.Settings) -> Trainer:
  return mnist_trainer.build_trainer(
    MnistSettings(
      training_method="rigl",
      num_epochs=10**6,
      maskupdate_frequency=settings["num_steps"],
      save_path=_directory(),
      on_nonfinite=settings["on_nonfinite"],
    )
  )


def _cifar10(settings: protocol.Settings) -> Trainer:
  return cifar_trainer.build_trainer(
    CifarSettings(
      training_method="rigl",
      use_synthetic_data=True,
      maskupdate_frequency=settings["num_steps"],
      train_dir=_directory(),
      on_nonfinite=settings["on_nonfinite"],
      **settings.get("network", {}),
    )
  )


def _imagenet(settings: protocol.Settings) -> Trainer:
  return ours_imagenet.make_trainer(settings)


_MAKERS: dict[str, Callable[[protocol.Settings], Trainer]] = {
  "mnist": _mnist,
  "cifar10": _cifar10,
  "imagenet": _imagenet,
}


def _directory() -> str:
  directory = tempfile.TemporaryDirectory()
  # It lives as long as the process, as the trainer does.
  atexit.register(directory.cleanup)
  return directory.name


def _seconds(work: Callable[[], Any]) -> float:
  start = time.perf_counter()
  work()
  return time.perf_counter() - start


if __name__ == "__main__":
  protocol.main({"steps": steps}, __doc__)
