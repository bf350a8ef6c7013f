# SPDX-License-Identifier: Apache-2.0
"""SET: growth at random."""

import numpy as np
import sparse_methods
import tensorflow as tf

N_UPDATES = 150


def test_growth_is_uniform_over_all_that_is_not_kept():
  optimizer = sparse_methods.make("set", "sgd", end_step=-1, drop_fraction=0.5)
  active = (np.arange(96) < 48).reshape(12, 8)
  # The second half of the active ones is dropped by its magnitude.
  weights = np.where(np.arange(96) < 24, 1.0, 0.1).reshape(12, 8)
  kernel = tf.Variable(weights.astype(np.float32), name="layer1/weights")
  optimizer.create_masks([kernel], {"layer1": active})
  mask = optimizer.layers[0].mask
  counts = np.zeros(96, int)
  for step in range(N_UPDATES):
    kernel.assign(np.where(active, weights, 0.0))
    mask.assign(active)
    optimizer.update_masks(None, tf.constant(step, tf.int64))
    grown = mask.numpy().ravel()
    assert grown[:24].all() and np.count_nonzero(grown) == 48
    counts += grown
  counts = counts[24:]
  # 24 of 72 grow each time: binomial, with p = 1/3.
  variance = N_UPDATES * (1 / 3) * (2 / 3)
  deviations = (counts - N_UPDATES / 3) / np.sqrt(variance)
  assert np.abs(deviations).max() < 4.5
  assert 0.5 < np.mean(deviations**2) < 1.5
  assert abs(np.corrcoef(counts, np.arange(72))[0, 1]) < 0.45


def test_an_update_follows_the_gradient_step_of_its_iteration():
  run = sparse_methods.Run("set", grow_init="zeros").train(1)
  # As published: updates at the global steps 1, 6, 11, ...
  assert int(run.step.numpy()) == run.last_update() == 1
  stepped = sparse_methods.Run("scratch").train(1)
  for i in range(2):
    kept = run.kernels()[i] != 0
    assert kept.any()
    np.testing.assert_array_equal(
      run.kernels()[i][kept], stepped.kernels()[i][kept]
    )
