# SPDX-License-Identifier: Apache-2.0
"""Layers of blocks on two replicas: the same bits on both, as one device.

Virtual devices must exist before TensorFlow starts, so this file runs itself in
a process of its own, once, and checks what that saves.
"""

import subprocess
import sys

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
import warm_python

from rigl import sparse_optimizers
from rigl.sparse import BlockSparseDense

pytestmark = pytest.mark.slow  # The devices need a process of their own.

METHODS = {
  "rigl": sparse_optimizers.SparseRigLOptimizer,
  "set": sparse_optimizers.SparseSETOptimizer,
}
N_ITERATIONS = 9
BATCH, INPUTS, OUTPUTS = 12, 24, 32
_RNG = np.random.default_rng(0)
IMAGES = _RNG.normal(size=(N_ITERATIONS, BATCH, INPUTS)).astype(np.float32)
TARGETS = _RNG.normal(size=(N_ITERATIONS, BATCH, OUTPUTS)).astype(np.float32)


class Run:
  """One layer in training, on all replicas of the strategy."""

  def __init__(self, name):
    self.layer = BlockSparseDense(INPUTS, OUTPUTS, 0.5, block=4, name="layer")
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    self.step = tf.Variable(0, dtype=tf.int64, aggregation=aggregation)
    inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    schedule = (0, 1000, 3, 0.4)
    self.optimizer = METHODS[name](inner, *schedule, noise_std=0.0)
    self.optimizer.create_masks([self.layer])

  def gradients(self, i):
    replica = tf.distribute.get_replica_context()
    count = replica.num_replicas_in_sync
    x, y = (
      tf.gather(
        tf.reshape(tf.gather(a, i), (count, BATCH // count, -1)),
        replica.replica_id_in_sync_group,
      )
      for a in (IMAGES, TARGETS)
    )
    variables = [self.layer.values, self.layer.bias]
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum((tf.nn.tanh(self.layer(x)) - y) ** 2) / BATCH
    return list(zip(tape.gradient(loss, variables), variables, strict=True))

  def train(self, run=lambda function: function()):
    """Iterations; `run` calls a function on all replicas."""

    @tf.function(autograph=False)
    def step(i):
      run(
        lambda: self.optimizer.apply_masked_gradients(
          self.gradients(i), self.step
        )
      )

    @tf.function(autograph=False)
    def update(i):
      run(lambda: self.optimizer.update_masks(self.gradients(i), self.step))

    sparse_methods.train_by_halves(
      self,
      lambda i, n: [step(tf.constant(k)) for k in range(i, i + n)],
      lambda i: update(tf.constant(i)),
      N_ITERATIONS,
    )
    return self


def copies(run):
  """The values of the layer's variables on each device."""
  layer = run.layer
  variables = [layer.values, layer.outputs_of, layer.numbers_of, layer.bias]
  return [
    [copy.numpy() for copy in getattr(v, "values", [v])] for v in variables
  ]


def main(path):
  tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
  )
  found = {}
  # Collectives may wait for each other for ever where few threads are left.
  strategy = tf.distribute.MirroredStrategy(
    ["CPU:0", "CPU:1"],
    cross_device_ops=tf.distribute.ReductionToOneDevice(),
  )
  for name in METHODS:
    with strategy.scope():
      run = Run(name)
    start = run.layer.grid()
    run.train(strategy.run)
    found[f"{name}/start"] = start
    for i, values in enumerate(copies(run)):
      for device, value in enumerate(values):
        found[f"{name}/{i}/{device}"] = value
  np.savez(path, **found)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  path = tmp_path_factory.mktemp("replicas") / "found.npz"
  done = subprocess.run(
    warm_python.command(__file__, str(path)),
    env=sparse_methods.child_environment(),
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return np.load(path)


@pytest.mark.parametrize("name", METHODS)
def test_both_replicas_have_the_bits_and_one_device_the_numbers(found, name):
  single = Run(name).train()
  assert (single.layer.grid() != found[f"{name}/start"]).any()
  for i, (value,) in enumerate(copies(single)):
    one, two = found[f"{name}/{i}/0"], found[f"{name}/{i}/1"]
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, value, rtol=1e-3, atol=1e-5)


if __name__ == "__main__":
  main(sys.argv[1])
