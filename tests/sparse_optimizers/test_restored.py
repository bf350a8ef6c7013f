# SPDX-License-Identifier: Apache-2.0
"""Restored state wins, whatever comes first: restoring or the masks."""

import warnings

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import METHODS

from rigl.sparse_optimizers.restored import mask_with_weights

SHAPE = (20, 20)
ORDERS = ("before", "after")
SPARSE = [n for n in sparse_methods.MASKED if METHODS[n].start == "sparse"]


class Sparse:
  """A kernel and its optimizer, which gets its masks on demand."""

  def __init__(self, name, seed=0):
    values = np.random.default_rng(seed).normal(size=SHAPE)
    self.kernel = tf.Variable(values.astype(np.float32), name="layer/weights")
    options = {"initial_acc_scale": 0.0} if name == "rigl" else {}
    self.name = name
    self.optimizer = sparse_methods.make(name, "adam", seed=seed, **options)

  def create(self):
    if METHODS[self.name].start == "sparse":
      return self.optimizer.sparsify([self.kernel], "random", 0.8)
    return self.optimizer.create_masks([self.kernel])

  def train(self, n, seed=1):
    rng = np.random.default_rng(seed)
    for _ in range(n):
      gradient = tf.constant(rng.normal(size=SHAPE), tf.float32)
      self.optimizer.apply_gradients([(gradient, self.kernel)])
    return self

  @property
  def mask(self):
    return self.optimizer.layers[0].mask.numpy()

  def state(self):
    named = {n: v.numpy() for n, v in self.optimizer.state().items()}
    return {"kernel": self.kernel.numpy(), **named}


def _trained(name, n=9):
  run = Sparse(name)
  run.create()
  return run.train(n)


def _restore(run, order, read):
  """Reads before or after the masks; nothing may be reported."""
  if order == "after":
    run.create()
  read(run)
  if order == "before":
    run.create()
  return run


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_a_run_goes_on_as_if_it_had_not_stopped(name, order, tmp_path):
  run = _trained(name)
  path = tf.train.Checkpoint(kernel=run.kernel, optimizer=run.optimizer).write(
    str(tmp_path / "model")
  )

  def read(other):
    tf.train.Checkpoint(kernel=other.kernel, optimizer=other.optimizer).read(
      path
    )

  other = Sparse(name, seed=0 if METHODS[name].random else 7)
  other.kernel.assign(tf.ones(SHAPE))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    _restore(other, order, read)
    np.testing.assert_array_equal(other.kernel, run.kernel)
    np.testing.assert_array_equal(other.mask, run.mask)
    run.train(8, seed=2)
    other.train(8, seed=2)
  sparse_methods.assert_same_bits(run.state(), other.state())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("how", ["object", "name", "separately", "deferred"])
def test_every_way_of_restoring_keeps_weights_and_mask(how, order, tmp_path):
  run = _trained("set")
  prefix = str(tmp_path / "model")
  both = tf.train.Checkpoint(kernel=run.kernel, optimizer=run.optimizer).write(
    prefix
  )
  one = tf.train.Checkpoint(kernel=run.kernel).write(f"{prefix}-kernel")
  other = Sparse("set", seed=7)

  def read(new):
    if how == "object":
      tf.train.Checkpoint(kernel=new.kernel, optimizer=new.optimizer).read(both)
    elif how == "name":
      reader = tf.train.load_checkpoint(one)
      name = "kernel/.ATTRIBUTES/VARIABLE_VALUE"
      new.kernel.assign(reader.get_tensor(name))
      if order == "after":
        new.optimizer.layers[0].mask.assign(run.mask)
        new.optimizer.apply_masks()
    elif how == "separately":
      tf.train.Checkpoint(kernel=new.kernel).read(one)
      tf.train.Checkpoint(optimizer=new.optimizer).read(both)
    else:
      late.read(both)

  late = tf.train.Checkpoint(optimizer=other.optimizer)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    _restore(other, order, read)
    if how == "deferred":
      late.kernel = other.kernel
    np.testing.assert_array_equal(other.kernel, run.kernel)
    other.optimizer.apply_masked_gradients([(tf.zeros(SHAPE), other.kernel)])
  assert np.count_nonzero(other.mask) == 80
  assert not other.kernel.numpy()[~other.mask].any()
  assert not run.kernel.numpy()[~other.mask].any()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", SPARSE)
def test_a_kernel_alone_keeps_its_weights_and_moves_the_mask(
  name, order, tmp_path
):
  # A kernel without its mask must not have a surplus of weights.
  is_soft = "soft_memory" in METHODS[name].arguments
  run = _trained(name, 27 if is_soft else 9)
  path = tf.train.Checkpoint(kernel=run.kernel).write(str(tmp_path / "model"))
  other = Sparse(name, seed=7)
  _restore(
    other, order, lambda new: tf.train.Checkpoint(kernel=new.kernel).read(path)
  )
  if order == "after":  # It is noticed by the next call.
    other.optimizer.apply_masked_gradients([(tf.zeros(SHAPE), other.kernel)])
  np.testing.assert_array_equal(other.kernel, run.kernel)
  assert np.count_nonzero(other.mask) == 80
  assert not other.kernel.numpy()[~other.mask].any()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_masks_alone_win_over_random_ones(name, order, tmp_path):
  run = _trained(name)
  path = tf.train.Checkpoint(optimizer=run.optimizer).write(
    str(tmp_path / "model")
  )
  other = Sparse(name, seed=7)
  first = other.kernel.numpy()

  def read(new):
    tf.train.Checkpoint(optimizer=new.optimizer).read(path)

  _restore(other, order, read)
  np.testing.assert_array_equal(other.mask, run.mask)
  if order == "before":
    weights = first * run.mask
    if METHODS[name].trains_inactive:
      weights = run.kernel.numpy()
    np.testing.assert_array_equal(other.kernel, weights)
    return
  with pytest.warns(UserWarning, match="'layer' disagree: [0-9]+ weights"):
    other.train(1)
  assert not other.kernel.numpy()[~other.mask].any()


@pytest.mark.parametrize("order", ORDERS)
def test_a_mask_and_weights_that_disagree_are_reported(order, tmp_path):
  run = _trained("rigl")
  weights = run.kernel.numpy()
  run.kernel.assign(tf.where(run.mask, weights, 0.0) + 1.0)
  path = tf.train.Checkpoint(kernel=run.kernel, optimizer=run.optimizer).write(
    str(tmp_path / "model")
  )
  other = Sparse("rigl", seed=7)
  checkpoint = tf.train.Checkpoint(
    kernel=other.kernel, optimizer=other.optimizer
  )
  message = "'layer' disagree: 320 weights off the mask are not zero"
  with pytest.warns(UserWarning, match=message):
    _restore(other, order, lambda _: checkpoint.read(path))
    other.optimizer.apply_masked_gradients([(tf.zeros(SHAPE), other.kernel)])
  np.testing.assert_array_equal(other.mask, run.mask)
  np.testing.assert_array_equal(other.kernel.numpy() != 0, other.mask)


def test_a_dense_kernel_that_was_restored_is_sparsified(tmp_path):
  dense = Sparse("set")
  path = tf.train.Checkpoint(kernel=dense.kernel).write(str(tmp_path / "model"))
  other = Sparse("set", seed=7)
  tf.train.Checkpoint(kernel=other.kernel).read(path)
  assert other.create() == {"layer": 0.8}
  expected = Sparse("set", seed=7)
  expected.create()
  np.testing.assert_array_equal(other.mask, expected.mask)
  np.testing.assert_array_equal(
    other.kernel, np.where(expected.mask, dense.kernel, 0.0)
  )


def test_sparsify_tells_the_sparsity_of_a_restored_mask(tmp_path):
  run = Sparse("scratch")
  run.optimizer.sparsify([run.kernel], "random", 0.95)
  path = tf.train.Checkpoint(optimizer=run.optimizer).write(
    str(tmp_path / "model")
  )
  other = Sparse("scratch", seed=7)
  tf.train.Checkpoint(optimizer=other.optimizer).read(path)
  assert other.create() == {"layer": 0.95}


def test_a_compiled_step_notices_what_was_restored_before_it(tmp_path):
  run = _trained("set")
  path = tf.train.Checkpoint(kernel=run.kernel).write(str(tmp_path / "model"))
  other = Sparse("set", seed=7)
  other.create()
  tf.train.Checkpoint(kernel=other.kernel).read(path)
  step = tf.function(
    lambda g: (
      other.optimizer.apply_masked_gradients([(g, other.kernel)]) and None
    ),
    autograph=False,
  )
  step(tf.zeros(SHAPE))
  np.testing.assert_array_equal(other.kernel, run.kernel)
  assert not other.kernel.numpy()[~other.mask].any()


@pytest.mark.parametrize(
  ("weights", "mask", "moved"),
  [
    ([0, 0, 3, 0], [1, 1, 0, 0], [1, 0, 1, 0]),
    ([0, 2, 3, 0], [1, 0, 0, 1], [0, 1, 1, 0]),
    ([0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 1]),  # No weight says anything.
    ([1, 2, 3, 0], [1, 0, 0, 1], [1, 0, 0, 1]),  # Less sparse than the mask.
    ([1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 1, 1]),
    ([0, 0, 0, -1], [1, 0, 1, 0], [1, 0, 0, 1]),
    ([np.nan, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]),
  ],
)
def test_a_mask_moves_to_the_weights_of_a_sparse_kernel(weights, mask, moved):
  found = mask_with_weights(np.float32(weights), np.array(mask, bool))
  assert found.astype(int).tolist() == moved
