# SPDX-License-Identifier: Apache-2.0
"""Keras layers of blocks on two replicas: the same bits, as one device.

Virtual devices must exist before TensorFlow starts, so this file runs itself in
a process of its own.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
import warm_python

import rigl.keras
from rigl.sparse.keras import BlockSparseDense

pytestmark = pytest.mark.slow  # The devices need a process of their own.

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 24)).astype("float32")
Y = RNG.normal(size=(96, 32)).astype("float32")


def train():
  """Returns the layer, and its grid at the start."""
  keras.utils.set_random_seed(0)
  layer = BlockSparseDense(32, "tanh", sparsity=0.5, block=4, seed=1)
  model = keras.Sequential([keras.Input([24]), layer])
  optimizer = rigl.keras.RigL(
    keras.optimizers.SGD(0.1, momentum=0.9),
    frequency=3,
    drop_fraction=0.4,
    noise_std=0.0,
    mask_engine="numpy",
  )
  model.compile(optimizer, "mse", jit_compile=False)
  start = layer.grid()
  model.fit(X, Y, 12, 1, shuffle=False, verbose=0)
  return layer, start


def main(path):
  tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
  )
  # Collectives may wait for each other for ever where few threads are left.
  strategy = tf.distribute.MirroredStrategy(
    ["CPU:0", "CPU:1"],
    cross_device_ops=tf.distribute.ReductionToOneDevice(),
  )
  with strategy.scope():
    layer, start = train()
  found = {"start": start, "kernel": layer.kernel(), "grid": layer.grid()}
  for name in ("values", "outputs_of", "numbers_of"):
    copies = getattr(layer, name).value.values
    found |= {f"{name}/{i}": copy.numpy() for i, copy in enumerate(copies)}
  np.savez(path, **found)


def test_two_replicas_train_as_one(tmp_path):
  path = tmp_path / "found.npz"
  done = subprocess.run(
    warm_python.command(__file__, str(path)),
    env=sparse_methods.child_environment(),
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  found = np.load(path)
  for name in ("values", "outputs_of", "numbers_of"):
    np.testing.assert_array_equal(found[f"{name}/0"], found[f"{name}/1"])
  single, _ = train()
  assert (found["grid"] != found["start"]).any()
  np.testing.assert_array_equal(found["grid"], single.grid())
  np.testing.assert_allclose(
    found["kernel"], single.kernel(), rtol=1e-3, atol=1e-5
  )


if __name__ == "__main__":
  main(sys.argv[1])
