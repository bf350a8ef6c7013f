# SPDX-License-Identifier: Apache-2.0
"""`apply_masks` clears what was assigned by other means."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import METHODS

SHAPE = (20, 20)


def trained(name):
  """A kernel, its optimizer and its mask after a few steps."""
  rng = np.random.default_rng(0)
  values = rng.normal(size=SHAPE).astype(np.float32)
  kernel = tf.Variable(values, name="layer/weights")
  optimizer = sparse_methods.make(name, "adam", seed=0)
  if METHODS[name].start == "sparse":
    optimizer.sparsify([kernel], "random", 0.8)
  else:
    optimizer.create_masks([kernel])
  for _ in range(9):
    gradient = tf.constant(rng.normal(size=SHAPE), tf.float32)
    optimizer.apply_gradients([(gradient, kernel)])
  mask = optimizer.layers[0].mask.numpy()
  assert 0 < np.count_nonzero(mask) < mask.size
  return kernel, optimizer, mask


@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_assigned_weights_stay_on_the_mask_and_become_zero_off_it(name):
  kernel, optimizer, mask = trained(name)
  values = np.random.default_rng(1).uniform(1, 2, SHAPE).astype(np.float32)
  kernel.assign(values)
  optimizer.apply_masks()
  np.testing.assert_array_equal(kernel, np.where(mask, values, 0))
  np.testing.assert_array_equal(optimizer.layers[0].mask, mask)


@pytest.mark.parametrize("name", ["set", "prune", "snip"])
def test_slots_keep_their_values_on_the_mask_alone(name):
  kernel, optimizer, mask = trained(name)
  slots = [optimizer.get_slot(kernel, slot) for slot in ("m", "v")]
  for slot in slots:
    slot.assign(tf.ones(SHAPE))
  optimizer.apply_masks()
  for slot in slots:
    np.testing.assert_array_equal(slot, mask)


def test_in_a_graph_it_is_an_operation():
  mask = np.eye(3, dtype=bool)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    kernel = tf.compat.v1.get_variable(
      "layer/weights", initializer=tf.ones([3, 3]), use_resource=True
    )
    optimizer = sparse_methods.make("set", "sgd", seed=0)
    optimizer.create_masks([kernel], {"layer": mask})
    apply = optimizer.apply_masks()
    session.run(tf.compat.v1.global_variables_initializer())
    session.run(kernel.assign(tf.fill([3, 3], 2.0)))
    assert session.run(kernel).all()
    session.run(apply)
    np.testing.assert_array_equal(session.run(kernel), 2.0 * mask)
