# SPDX-License-Identifier: Apache-2.0
"""What SET, static, SNFS and RigL share: ties, shares and fresh values."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf

ACTIVE = np.arange(96).reshape(12, 8) % 2 == 0


def _equal_weights(**options):
  """A layer whose active weights all have one magnitude."""
  optimizer = sparse_methods.make(
    "rigl", "sgd", **{"drop_fraction": 0.25, "grow_init": "zeros", **options}
  )
  signs = np.where(np.arange(96) % 3 == 0, 0.5, -0.5).reshape(12, 8)
  kernel = tf.Variable(signs.astype(np.float32), name="layer1/weights")
  optimizer.create_masks([kernel], {"layer1": ACTIVE})
  return optimizer


def _dropped(**options):
  """Flat positions that an update drops; growth is where nothing was."""
  optimizer = _equal_weights(**options)
  gradient = tf.constant(~ACTIVE, tf.float32)
  layer = optimizer.layers[0]
  optimizer.update_masks([(gradient, layer.kernel)], tf.constant(0, tf.int64))
  return np.flatnonzero(ACTIVE & ~layer.mask.numpy())


def test_without_noise_ties_are_dropped_from_the_end():
  np.testing.assert_array_equal(
    _dropped(noise_std=0.0), np.flatnonzero(ACTIVE)[-12:]
  )


def test_noise_breaks_ties_by_chance():
  positions = [_dropped(seed=seed) for seed in range(3)]
  for dropped in positions:
    assert dropped.size == 12 and dropped.min() < 40 and dropped.max() > 56
  assert np.any(positions[0] != positions[1])
  assert np.any(positions[1] != positions[2])
  np.testing.assert_array_equal(positions[0], _dropped(seed=0))


def test_noise_does_not_drop_weights_that_are_clearly_larger():
  optimizer = _equal_weights()
  kernel = optimizer.layers[0].kernel
  large = (np.arange(96) < 72).reshape(12, 8)
  kernel.assign(tf.where(large, 2.0 * kernel, kernel))
  gradient = tf.constant(~ACTIVE, tf.float32)
  optimizer.update_masks([(gradient, kernel)], tf.constant(0, tf.int64))
  dropped = ACTIVE & ~optimizer.layers[0].mask.numpy()
  np.testing.assert_array_equal(dropped, ACTIVE & ~large)


@pytest.mark.parametrize("name", sparse_methods.DROP_GROW)
def test_drop_fraction_is_that_of_the_schedule(name):
  optimizer = sparse_methods.make(name, drop_fraction_anneal="cosine")
  steps = (0, 20, 50, 100, 101)
  expected = [0.2 * (1 + np.cos(np.pi * step / 100)) for step in steps[:4]]
  fractions = [optimizer.drop_fraction_at(step) for step in steps]
  np.testing.assert_allclose(fractions, [*expected, 0.0], atol=1e-7)


@pytest.mark.parametrize("name", sparse_methods.DROP_GROW)
@pytest.mark.parametrize("drop_fraction", [0.0, 1.0])
def test_nothing_and_everything_can_be_dropped(name, drop_fraction):
  run = sparse_methods.Run(
    name, drop_fraction=drop_fraction, grow_init="zeros", begin_step=3
  ).train(3)
  masks, kernels = run.masks(), run.kernels()
  run.optimizer.update_masks(run.gradients(3), run.step)
  for i in range(2):
    assert np.count_nonzero(run.masks()[i]) == 48
    if not drop_fraction:
      np.testing.assert_array_equal(run.masks()[i], masks[i])
      np.testing.assert_array_equal(run.kernels()[i], kernels[i])
    elif name == "static":
      assert not np.any(run.kernels()[i])
    else:
      assert not np.any(run.kernels()[i][~masks[i]])


def test_random_normal_values_are_normal():
  optimizer = _equal_weights()
  key = tf.constant([3, 5], tf.uint32)
  values = optimizer._random_normal(100_000, key).numpy()
  assert abs(values.mean()) < 0.015 and abs(values.std() - 1) < 0.015
  for bound, share in ((1.0, 0.3173), (2.0, 0.0455), (3.0, 0.0027)):
    np.testing.assert_allclose(
      np.mean(np.abs(values) > bound), share, atol=0.005
    )
  assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.015
