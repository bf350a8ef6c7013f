# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker of the ImageNet script: its own run on synthetic images.

It uses all cores, by the defaults of TensorFlow; no thread number is set.
"""

import atexit
import tempfile
import time
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import numpy as np
import protocol
import tensorflow as tf

from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_trainer import build_trainer
from rigl.training.trainer import Trainer


def step_time(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Gradient steps of a network, with their share of mask updates.

  Args:
    settings: the settings of `step_time.py`.

  Returns:
    The unit and its information.
  """
  trainer, count = make_trainer(settings), settings["num_steps"]
  state, executor = trainer.state, trainer.executor

  def advance(limit: int) -> tuple[int, float]:
    """Advances once; returns the gradient steps and the seconds."""
    start = time.perf_counter()
    progress = executor.advance(state.iteration, limit)
    state.iteration += progress.iterations
    return progress.steps, time.perf_counter() - start

  info: dict[str, Any] = {"library": f"tensorflow {tf.__version__}"}

  def unit() -> float:
    """Seconds of a step, with its share of a mask update."""
    done, total = 0, 0.0
    while done < count:
      made, seconds = advance(count - done)
      done += made
      total += seconds if made else 0.0
    mean = total / count
    if settings["sparse"]:
      made, info["update_seconds"] = advance(1)
      assert made == 0, "A mask update is due after every round."
      mean += info["update_seconds"] / settings["frequency"]
    return mean

  unit()
  kernels = [v for v in state.task.trainable_variables if v.shape.rank >= 2]
  info["active"] = sum(int(np.count_nonzero(v.numpy())) for v in kernels)
  return unit, info


def make_trainer(settings: protocol.Settings) -> Trainer:
  """The run of the script.

  Args:
    settings: the settings of `step_time.py`.
  """
  directory = tempfile.TemporaryDirectory()
  # It lives as long as the process, as the trainer does.
  atexit.register(directory.cleanup)
  size = settings["image_shape"][0]
  trainer = build_trainer(
    ImagenetSettings(
      resnet_depth=50,
      width=settings["width"],
      training_method="rigl" if settings["sparse"] else "baseline",
      mask_init_method="erdos_renyi_kernel",
      end_sparsity=settings["sparsity"],
      first_layer_sparsity=-1.0,
      maskupdate_frequency=settings["num_steps"],
      maskupdate_end_step=-1,
      drop_fraction=settings["drop_fraction"],
      train_batch_size=settings["batch_size"],
      image_size=size,
      use_synthetic_data=True,
      export_model_freq=0,
      use_folder_stub=False,
      output_dir=directory.name,
      seed=settings["seed"],
      on_nonfinite=settings.get("on_nonfinite", "stop"),
    ),
  )
  trainer.prepare()
  return trainer


if __name__ == "__main__":
  protocol.main({"step_time": step_time}, __doc__)
