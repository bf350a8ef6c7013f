# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker of `rigl.keras`: the training step that `fit` makes.

It uses all cores, by the defaults of TensorFlow; no thread number is set.
"""

import time
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import keras
import numpy as np
import protocol
import tensorflow as tf

import rigl.keras as sparse_keras


def keras_step(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Gradient steps of a model, with their share of mask updates.

  Args:
    settings: the settings of `keras_step.py`.

  Returns:
    The unit and its information.
  """
  keras.utils.set_random_seed(settings["seed"])
  model, inputs, classes = _MODELS[settings["model"]](settings)
  optimizer = _OPTIMIZERS[settings["optimizer"]]()
  if settings["sparse"]:
    optimizer = sparse_keras.RigL(
      optimizer, settings["sparsity"], frequency=settings["num_steps"]
    )
  model.compile(
    optimizer,
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=settings["jit_compile"],
  )
  model.make_train_function()
  batches = iter(tf.data.Dataset.from_tensors((inputs, classes)).repeat())
  info: dict[str, Any] = {
    "library": f"keras {keras.__version__}, tensorflow {tf.__version__}"
  }

  def step() -> float:
    """Seconds of one batch."""
    start = time.perf_counter()
    logs = model.train_function(batches)
    float(logs["loss"])
    return time.perf_counter() - start

  def unit() -> float:
    """Seconds of a step, with its share of a mask update."""
    seconds = sum(step() for _ in range(settings["num_steps"]))
    mean = seconds / settings["num_steps"]
    if settings["sparse"]:
      before = int(optimizer.iterations)
      info["update_seconds"] = step()
      assert int(optimizer.iterations) == before, "An update was due."
      mean += info["update_seconds"] / settings["frequency"]
    return mean

  step()  # Traces, and with RigL makes the first update.
  unit()
  kernels = [v for v in model.trainable_variables if len(v.shape) >= 2]
  info["active"] = sum(int(np.count_nonzero(v.numpy())) for v in kernels)
  return unit, info


def _mobilenet(
  settings: protocol.Settings,
) -> tuple[keras.Model, np.ndarray, np.ndarray]:
  size, number = settings["image_size"], settings["classes"]
  model = keras.applications.MobileNet(
    (size, size, 3),
    alpha=settings["width"],
    weights=None,
    classes=number,
    classifier_activation=None,
  )
  random = np.random.default_rng(settings["seed"])
  batch = settings["batch_size"]
  images = random.standard_normal((batch, size, size, 3), "float32")
  return model, images, random.integers(0, number, batch)


def _transformer(
  settings: protocol.Settings,
) -> tuple[keras.Model, np.ndarray, np.ndarray]:
  width, length = settings["width"], settings["length"]
  inputs = keras.Input((length, width))
  x = keras.layers.LayerNormalization()(inputs)
  heads = settings["heads"]
  x = keras.layers.MultiHeadAttention(heads, width // heads)(x, x)
  x = attended = keras.layers.add([inputs, x])
  x = keras.layers.LayerNormalization()(x)
  x = keras.layers.Dense(4 * width, activation="gelu")(x)
  x = keras.layers.Dense(width)(x)
  model = keras.Model(inputs, keras.layers.add([attended, x]))
  random = np.random.default_rng(settings["seed"])
  shape = (settings["batch_size"], length, width)
  tokens = random.standard_normal(shape, "float32")
  return model, tokens, random.integers(0, width, shape[:2])


_MODELS = {"mobilenet": _mobilenet, "transformer": _transformer}
_OPTIMIZERS = {
  "adamw": lambda: keras.optimizers.AdamW(1e-3),
  "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
}


if __name__ == "__main__":
  protocol.main({"keras_step": keras_step}, __doc__)
