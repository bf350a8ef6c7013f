# SPDX-License-Identifier: Apache-2.0
"""Shards of a TPU computation: one sum of gradients, before all else.

There is no TPU here: the sum over two shards is played by the test.
"""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, INNER, METHODS

SHARDS = 2


class Shards:
  """Plays `cross_replica_sum` for the first of two shards.

  Args:
    others: the gradients of the second shard, in the order of the sums.
  """

  def __init__(self, monkeypatch):
    self.others, self.count = [], 0
    monkeypatch.setattr(tf.compat.v1.tpu, "cross_replica_sum", self._sum)

  def _sum(self, gradient):
    self.count += 1
    return gradient + self.others.pop(0)


@pytest.fixture
def shards(monkeypatch):
  return Shards(monkeypatch)


def make(name, wrap=lambda inner: inner):
  """A method's model, optimizer and step."""
  method = METHODS[name]
  model = sparse_methods.Model()
  optimizer = method.make(wrap(INNER["momentum"]()), **method.arguments)
  if method.start == "sparse":
    optimizer.sparsify(model.kernels, "random", 0.5)
  elif method.start == "dense":
    optimizer.create_masks(model.kernels)
  return model, optimizer, tf.Variable(0, dtype=tf.int64)


def gradients(seed, model):
  rng = np.random.default_rng(seed)
  return [
    rng.normal(size=v.shape).astype(np.float32) for v in model.all_variables
  ]


@pytest.mark.parametrize("name", METHODS)
def test_masks_and_steps_are_those_of_the_sum(shards, name):
  model, optimizer, step = make(name, tf.compat.v1.tpu.CrossShardOptimizer)
  one, reference, one_step = make(name)
  for i in range(FREQUENCY + 3):
    mine, other = gradients(i, model), gradients(100 + i, model)
    shards.others, shards.count = list(other), 0
    pairs = zip(mine, model.all_variables, strict=True)
    optimizer.apply_gradients(pairs, step)
    assert shards.count == len(mine)
    summed = [a + b for a, b in zip(mine, other, strict=True)]
    pairs = zip(summed, one.all_variables, strict=True)
    reference.apply_gradients(pairs, one_step)
  assert step.numpy() == one_step.numpy()
  for ours, theirs in zip(model.all_variables, one.all_variables, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  states = (optimizer.state(), reference.state())
  assert states[0].keys() == states[1].keys()
  for key, value in states[0].items():
    np.testing.assert_array_equal(value, states[1][key], err_msg=key)


def test_the_loss_is_divided_by_the_number_of_shards():
  from tensorflow.python.tpu import tpu_function

  with tf.Graph().as_default(), tpu_function.tpu_shard_context(SHARDS):
    model, optimizer, _ = make("rigl", tf.compat.v1.tpu.CrossShardOptimizer)
    weights = model.kernels[0]
    loss = 3.0 * tf.reduce_sum(weights)
    ((gradient, _),) = optimizer.compute_gradients(loss, [weights])
    with tf.compat.v1.Session() as session:
      found = session.run(gradient)
  np.testing.assert_array_equal(found, np.full(weights.shape, 3.0 / SHARDS))


def test_slots_are_there_before_the_first_step():
  model, optimizer, _ = make("rigl", tf.compat.v1.tpu.CrossShardOptimizer)
  assert optimizer.get_slot_names() == ["momentum"]
  assert "layer1/weights/Momentum" in optimizer.state()
  assert optimizer.get_slot(model.kernels[0], "momentum") is not None


def test_groups_of_shards_are_refused():
  with pytest.raises(ValueError, match="no `group_assignment`"):
    make(
      "rigl",
      lambda inner: tf.compat.v1.tpu.CrossShardOptimizer(
        inner, group_assignment=[[0], [1]]
      ),
    )
