# SPDX-License-Identifier: Apache-2.0
"""Updates on the host are those in a graph."""

import numpy as np
import pytest
import tensorflow as tf

from rigl.sparse_optimizers import (
  SparseMomentumOptimizer,
  SparseRigLOptimizer,
  SparseSETOptimizer,
)

SHAPES = {"a": (40, 30), "b": (3, 3, 8, 16), "c": (30, 40)}


class Updated:
  """Three layers whose masks are updated."""

  def __init__(self, method, **options):
    self.generator = generator = np.random.default_rng(0)
    self.kernels = {
      name: tf.Variable(
        generator.normal(size=shape), dtype=tf.float32, name=name
      )
      for name, shape in SHAPES.items()
    }
    self.optimizer = method(
      tf.compat.v1.train.MomentumOptimizer(0.1, 0.9),
      begin_step=0,
      end_step=100,
      frequency=1,
      drop_fraction=0.3,
      seed=5,
      **options,
    )
    self.optimizer.sparsify(self.kernels, "random", 0.8)
    self.optimizer.create_slots(list(self.kernels.values()))
    self.step = tf.Variable(0, dtype=tf.int64)

  def update(self, in_graph):
    """Trains a little, at random, and updates."""
    noise = [
      tf.constant(self.generator.normal(size=shape), tf.float32)
      for shape in SHAPES.values()
    ]
    for layer, change in zip(self.optimizer.layers, noise, strict=True):
      mask = tf.cast(layer.mask, tf.float32)
      layer.kernel.assign_add(0.1 * change * mask)

    def call():
      pairs = zip(noise, self.kernels.values(), strict=True)
      self.optimizer.update_masks(list(pairs), self.step)

    (tf.function(call, autograph=False) if in_graph else call)()
    self.step.assign_add(1)

  def state(self):
    values = [*self.kernels.values(), *self.optimizer.variables()]
    return [np.asarray(value) for value in values]


@pytest.mark.parametrize(
  "method, options",
  [
    (SparseRigLOptimizer, {}),
    (SparseSETOptimizer, {"grow_init": "initial_dist_0.5"}),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (
        (SparseRigLOptimizer, {"initial_acc_scale": 0.5}),
        (SparseRigLOptimizer, {"grow_init": "grad_sign"}),
        (SparseSETOptimizer, {}),
        (SparseMomentumOptimizer, {}),
      )
    ),
  ],
)
def test_updates_on_the_host_are_those_of_a_graph(method, options):
  options = options | {"noise_std": 0.0}
  host, graph = Updated(method, **options), Updated(method, **options)
  host.optimizer.use_mask_engine("numpy", threads=2)
  for _ in range(3):
    before = [layer.mask.numpy() for layer in host.optimizer.layers]
    host.update(in_graph=False)
    graph.update(in_graph=True)
    changed = [
      not np.array_equal(old, layer.mask.numpy())
      for old, layer in zip(before, host.optimizer.layers, strict=True)
    ]
    assert any(changed)
    for a, b in zip(host.state(), graph.state(), strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  "options",
  [
    {},
    pytest.param({"grow_init": "random_normal"}, marks=pytest.mark.slow),
    pytest.param({"grow_init": "grad_scale_3"}, marks=pytest.mark.slow),
  ],
)
def test_noise_and_statistics_differ_by_rounding_alone(options):
  method = SparseRigLOptimizer
  host, graph = Updated(method, **options), Updated(method, **options)
  host.optimizer.use_mask_engine("numpy", threads=2)
  host.update(in_graph=False)
  graph.update(in_graph=True)
  for a, b in zip(host.state(), graph.state(), strict=True):
    np.testing.assert_array_equal(a != 0, b != 0)
    np.testing.assert_allclose(a, b, rtol=1e-5)
