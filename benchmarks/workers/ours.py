# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker of this package.

It uses all cores, by the defaults of TensorFlow; no thread number is set.
"""

import atexit
import tempfile
import time
from collections.abc import Callable
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import data
import memory
import numpy as np
import protocol
import tensorflow as tf

from rigl import sparse_optimizers
from rigl.cifar_resnet.cifar_task import CifarTask
from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.data.array_source import ArraySource
from rigl.distribution.replicas import Replicas
from rigl.mnist.mnist_model import MnistFc, MnistTask
from rigl.mnist.mnist_settings import MnistSettings
from rigl.mnist.mnist_trainer import build_trainer
from rigl.runners.evaluations import ArrayEvaluation
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.schedules import PiecewiseConstant
from rigl.training.executor import Executor
from rigl.training.loop import Intervals, Loop
from rigl.training.train_state import TrainState, new_global_step
from rigl.types import Tensor


def mask_update(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """One drop and grow of all layers, with the assignment of its results.

  Args:
    settings: the settings of `mask_update.py`.

  Returns:
    The unit and its information.
  """
  layers = RandomLayers(settings)

  def unit() -> float:
    gradients = layers.renew()
    return _seconds(lambda: layers.update(gradients))

  info = _info()
  for which in ("first", "later"):
    gradients = layers.renew()
    info[f"{which}_peak_mib"] = memory.peak_growth_mib(
      lambda gradients=gradients: layers.update(gradients)
    )
  masks = layers.masks()
  unit()
  return unit, info | data.mask_info(masks, layers.masks())


class RandomLayers:
  """Sparse kernels without a network around them.

  Args:
    settings: the settings of `mask_update.py`.
  """

  def __init__(self, settings: protocol.Settings) -> None:
    self._kernels = [
      tf.Variable(tf.zeros(shape), name=f"{name}/weights")
      for name, shape in settings["shapes"].items()
    ]
    self._optimizer = _rigl(
      tf.compat.v1.train.MomentumOptimizer(0.1, 0.9), settings
    )
    self._optimizer.sparsify(
      self._kernels, "random", 0.0, settings["sparsities"]
    )
    self._optimizer.create_slots(self._kernels)
    self._step = tf.Variable(0, dtype=tf.int64)
    self._generator = tf.random.Generator.from_seed(settings["seed"])

  def renew(self) -> list[Tensor]:
    """Draws active weights and their slots; returns random gradients."""
    gradients = []
    for layer in self._optimizer.layers:
      shape, mask = layer.kernel.shape, tf.cast(layer.mask, tf.float32)
      slot = self._optimizer.get_slot(layer.kernel, "momentum")
      for variable in (layer.kernel, slot):
        variable.assign(self._generator.normal(shape) * mask)
      gradients.append(self._generator.normal(shape))
    return gradients

  @tf.function(autograph=False)
  def update(self, gradients: list[Tensor]) -> None:
    """The unit that is measured."""
    pairs = zip(gradients, self._kernels, strict=True)
    self._optimizer.update_masks(list(pairs), self._step)

  def masks(self) -> list[np.ndarray]:
    """Returns copies of the masks."""
    return [np.array(layer.mask) for layer in self._optimizer.layers]


def step_time(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Training iterations of a model, with their share of mask updates.

  Args:
    settings: the settings of `step_time.py`.

  Returns:
    The unit and its information.
  """
  trainer = Trainer(settings)
  trainer.train()
  return trainer.train, _info() | {"active": trainer.num_active()}


class Trainer:
  """The package's own loop on random images.

  Args:
    settings: the settings of `step_time.py`.
  """

  def __init__(self, settings: protocol.Settings) -> None:
    self._count = settings["num_steps"]
    random = data.RandomData(settings)
    labels = random.labels.astype(np.int32)
    arrays = {"images": random.images, "labels": labels}
    source = ArraySource(arrays, settings["batch_size"], settings["seed"])
    self._model, task, jit_compile = MODELS[settings["model"]](settings)
    self._optimizer = self._make_optimizer(settings)
    self._state = TrainState(
      task,
      {},
      self._optimizer,
      new_global_step(),
      PiecewiseConstant((), (settings["learning_rate"],)),
    )
    replicas = Replicas()
    executor = TensorFlowExecutor(
      self._state,
      source,
      ArrayEvaluation(task, source, replicas),
      replicas,
      jit_compile=jit_compile,
    )
    # Without reports and checkpoints, steps are all that is measured.
    self._loop = Loop(
      executor, self._state, Intervals(2**31, report=0), lambda _: None
    )

  def _make_optimizer(
    self, settings: protocol.Settings
  ) -> sparse_optimizers.SparseOptimizer:
    inner = tf.compat.v1.train.MomentumOptimizer(
      settings["learning_rate"], settings["momentum"], use_nesterov=True
    )
    decay = settings["weight_decay"]
    if not settings["sparse"]:
      return sparse_optimizers.SparseOptimizer(inner, weight_decay=decay)
    optimizer = _rigl(inner, settings, weight_decay=decay)
    kernels = self._model.kernels
    optimizer.sparsify(
      {name: kernels[name] for name in settings["sparsities"]},
      "random",
      0.0,
      settings["sparsities"],
    )
    return optimizer

  def train(self) -> float:
    """Makes `num_steps` iterations; returns the seconds of each."""
    total = self._state.iteration + self._count
    return _seconds(lambda: self._loop.run(total)) / self._count

  def num_active(self) -> int:
    """The number of nonzero weights of the kernels."""
    kernels = self._model.kernels.values()
    return sum(int(np.count_nonzero(kernel.numpy())) for kernel in kernels)


def _mnist_fc(settings: protocol.Settings) -> tuple[Any, Any, bool]:
  model = MnistFc(settings["image_shape"][0], settings["seed"])
  return model, MnistTask(model), True


def _wrn_22_2(settings: protocol.Settings) -> tuple[Any, Any, bool]:
  classes, seed = settings["num_classes"], settings["seed"]
  model = WideResNet(22, 2, classes, seed, prune_first_layer=True)
  return model, CifarTask(model, seed, classes, per_class=False), False


# A model, its task and whether XLA compiles it, as the scripts have it.
MODELS = {"mnist_fc": _mnist_fc, "wrn_22_2": _wrn_22_2}


def mnist_run(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Epochs of the MNIST script with all it does, or its bare steps.

  Args:
    settings: the settings of `whole_run.py`.

  Returns:
    The unit and its information.
  """
  directory = tempfile.TemporaryDirectory()
  flags = MnistSettings(
    training_method="rigl",
    save_path=directory.name,
    num_epochs=10**6,
    maskupdate_end_step=-1,
  )
  trainer = build_trainer(flags)
  trainer.prepare()
  epoch = trainer.intervals.report
  count = settings["num_epochs"] * epoch

  def whole() -> float:
    total = trainer.state.iteration + count
    return _seconds(lambda: trainer.run(total)) / count

  def bare() -> float:
    first = trainer.state.iteration
    trainer.state.iteration += count
    return _seconds(lambda: _advance(trainer.executor, first, count)) / count

  unit = whole if settings["whole"] else bare
  unit()
  # The directory lives as long as the process, as the run does.
  atexit.register(directory.cleanup)
  return unit, _info()


def _rigl(
  inner: tf.compat.v1.train.Optimizer,
  settings: protocol.Settings,
  **options: Any,
) -> sparse_optimizers.SparseRigLOptimizer:
  return sparse_optimizers.SparseRigLOptimizer(
    inner,
    begin_step=0,
    end_step=-1,
    frequency=settings["frequency"],
    drop_fraction=settings["drop_fraction"],
    seed=settings["seed"],
    **options,
  )


def _advance(executor: Executor, first: int, count: int) -> None:
  """Makes iterations without the loop's events."""
  done = 0
  while done < count:
    done += executor.advance(first + done, count - done).iterations


def _seconds(work: Callable[[], Any]) -> float:
  start = time.perf_counter()
  work()
  return time.perf_counter() - start


def _info() -> dict[str, Any]:
  return {"library": f"tensorflow {tf.__version__}"}


if __name__ == "__main__":
  protocol.main(
    {
      "mask_update": mask_update,
      "step_time": step_time,
      "mnist_run": mnist_run,
    },
    __doc__,
  )
