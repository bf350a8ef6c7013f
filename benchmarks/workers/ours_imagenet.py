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
    settings: see `step_time.py`.

  Returns:
    The unit and its information.
  """
  run, count = _build(settings), settings["num_steps"]
  state, executor = run.state, run.executor

  def timed(limit: int) -> tuple[int, float]:
    """Advances; returns the number of gradient steps and the seconds."""
    start = time.perf_counter()
    progress = executor.advance(state.iteration, limit)
    state.iteration += progress.iterations
    return progress.steps, time.perf_counter() - start

  def steps() -> float:
    done, seconds = 0, 0.0
    while done < count:
      made, passed = timed(count - done)
      done += made
      seconds += passed if made else 0.0
    return seconds / count

  def update() -> float:
    # One is due now.
    due = state.step - settings["frequency"]
    state.optimizer.last_update_step.assign(due)
    return timed(1)[1]

  def unit() -> float:
    seconds = steps()
    if settings["sparse"]:
      seconds += update() / settings["frequency"]
    return seconds

  unit()
  kernels = state.task.model.kernels.values()
  active = sum(int(np.count_nonzero(kernel.numpy())) for kernel in kernels)
  info = {"library": f"tensorflow {tf.__version__}", "active": active}
  if settings["sparse"]:
    info["update_seconds"] = update()
  return unit, info


def _build(settings: protocol.Settings) -> Trainer:
  directory = tempfile.TemporaryDirectory()
  # It lives as long as the process, as the run does.
  atexit.register(directory.cleanup)
  size = settings["image_shape"][0]
  run = build_trainer(
    ImagenetSettings(
      resnet_depth=50,
      width=settings["width"],
      training_method="rigl" if settings["sparse"] else "baseline",
      mask_init_method="erdos_renyi_kernel",
      end_sparsity=settings["sparsity"],
      first_layer_sparsity=-1.0,
      maskupdate_frequency=settings["frequency"],
      maskupdate_end_step=-1,
      drop_fraction=settings["drop_fraction"],
      train_batch_size=settings["batch_size"],
      image_size=size,
      use_synthetic_data=True,
      export_model_freq=0,
      use_folder_stub=False,
      output_dir=directory.name,
      seed=settings["seed"],
    ),
  )
  run.prepare()
  return run


if __name__ == "__main__":
  protocol.main({"step_time": step_time}, __doc__)
