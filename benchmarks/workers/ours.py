"""Benchmark worker of this package.

It uses all cores, by the defaults of TensorFlow; no thread number is set.
"""

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import data  # noqa: E402
import memory  # noqa: E402
import numpy as np  # noqa: E402
import protocol  # noqa: E402
import tensorflow as tf  # noqa: E402

from rigl import sparse_optimizers  # noqa: E402

Tensor = Any


def mask_update(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """One drop and grow of all layers, with the assignment of its results.

  Args:
    settings: see `mask_update.py`.

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
    settings: see `mask_update.py`.
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
    """What is measured."""
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
    settings: see `step_time.py`.

  Returns:
    The unit and its information.
  """
  trainer = Trainer(settings)
  trainer.train()
  return trainer.train, _info() | {"active": trainer.num_active()}


class Trainer:
  """A compiled loop of training steps; the host chooses when to update masks.

  Args:
    settings: see `step_time.py`.
  """

  def __init__(self, settings: protocol.Settings) -> None:
    self._settings = settings
    self._data = data.RandomData(settings)
    self._images = tf.constant(self._data.images)
    self._labels = tf.constant(self._data.labels)
    self._model = MODELS[settings["model"]](settings)
    self._step = tf.Variable(0, dtype=tf.int64)
    self._optimizer = self._make_optimizer()
    self._optimizer.create_slots(self._model.trainable_variables)

  def _make_optimizer(self) -> sparse_optimizers.SparseOptimizer:
    settings = self._settings
    inner = tf.compat.v1.train.MomentumOptimizer(
      settings["learning_rate"], settings["momentum"], use_nesterov=True
    )
    decay = settings["weight_decay"]
    if not settings["sparse"]:
      return sparse_optimizers.SparseOptimizer(inner, weight_decay=decay)
    optimizer = _rigl(inner, settings, weight_decay=decay)
    optimizer.sparsify(
      {name: self._model.kernels[name] for name in settings["sparsities"]},
      "random",
      0.0,
      settings["sparsities"],
    )
    return optimizer

  def train(self) -> float:
    """Makes `num_steps` iterations; returns the seconds of each."""
    periods = [tf.constant(period) for period in self._data.periods()]
    seconds = _seconds(lambda: [self._train_period(p) for p in periods])
    return seconds / self._settings["num_steps"]

  def _train_period(self, batches: Tensor) -> None:
    if self._settings["sparse"]:
      self._train_steps(batches[:-1])
      self._update_masks(batches[-1])
    else:
      self._train_steps(batches)

  @tf.function(jit_compile=True, autograph=False)
  def _train_steps(self, batches: Tensor) -> None:
    num_steps = batches.shape[0]

    def train_step(i: Tensor) -> Tensor:
      gradients = self._gradients(batches[i])
      self._optimizer.apply_masked_gradients(gradients, self._step)
      return i + 1

    tf.while_loop(lambda i: i < num_steps, train_step, [tf.constant(0)])

  @tf.function(jit_compile=True, autograph=False)
  def _update_masks(self, batch: Tensor) -> None:
    self._optimizer.update_masks(self._gradients(batch), self._step)

  def _gradients(self, batch: Tensor) -> list[tuple[Tensor, tf.Variable]]:
    variables = self._model.trainable_variables
    images = tf.cast(tf.gather(self._images, batch), tf.float32) / 255.0
    with tf.GradientTape() as tape:
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.gather(self._labels, batch), self._model(images)
      )
      loss = tf.reduce_mean(losses)
    return list(zip(tape.gradient(loss, variables), variables, strict=True))

  def num_active(self) -> int:
    """The number of nonzero weights of the kernels."""
    kernels = self._model.kernels.values()
    return sum(int(np.count_nonzero(kernel.numpy())) for kernel in kernels)


class MnistFc(tf.Module):
  """A fully connected network.

  Args:
    settings: `shapes` of the kernels by layer, and `seed`.
  """

  def __init__(self, settings: protocol.Settings) -> None:
    super().__init__()
    generator = tf.random.Generator.from_seed(settings["seed"])
    self.kernels, self.biases = {}, {}
    for name, (n_in, n_out) in settings["shapes"].items():
      weights = generator.normal([n_in, n_out]) / n_in**0.5
      self.kernels[name] = tf.Variable(weights, name=f"{name}/weights")
      self.biases[name] = tf.Variable(tf.zeros(n_out), name=f"{name}/bias")

  def __call__(self, images: Tensor) -> Tensor:
    """Returns logits [batch, classes] of images [batch, pixels]."""
    activations = images
    for i, (name, kernel) in enumerate(self.kernels.items()):
      if i:
        activations = tf.nn.relu(activations)
      activations = tf.matmul(activations, kernel) + self.biases[name]
    return activations


MODELS = {"mnist_fc": MnistFc}


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


def _seconds(work: Callable[[], Any]) -> float:
  start = time.perf_counter()
  work()
  return time.perf_counter() - start


def _info() -> dict[str, Any]:
  return {"library": f"tensorflow {tf.__version__}"}


if __name__ == "__main__":
  protocol.main({"mask_update": mask_update, "step_time": step_time}, __doc__)
