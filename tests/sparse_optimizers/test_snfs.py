# SPDX-License-Identifier: Apache-2.0
"""SNFS: the moving average of the dense gradient, and growth by it."""

import numpy as np
from sparse_methods import Run

DECAY = 0.8


def _averages(run):
  state = run.optimizer.state()
  names = [f"layer{i}/weights/ExponentialMovingAverage" for i in (1, 2)]
  return [state[name].numpy() for name in names]


def test_averages_are_those_of_the_dense_gradients():
  run = Run("momentum", momentum=DECAY)
  expected = [np.zeros(kernel.shape) for kernel in run.model.kernels]
  for i in range(12):  # Updates come with the iterations 0, 5 and 10.
    gradients = [g.numpy() for g, _ in run.gradients(i)[:2]]
    run.iterate(i)
    for k in range(2):
      expected[k] = DECAY * expected[k] + (1 - DECAY) * gradients[k]
      np.testing.assert_allclose(
        _averages(run)[k], expected[k], rtol=1e-4, atol=1e-6
      )
      assert np.any(expected[k][~run.masks()[k]])


def test_the_highest_averages_grow():
  run = Run("momentum", begin_step=6, drop_fraction=1.0).train(5)
  run.iterate(5)
  assert run.last_update() == 6
  for k, average in enumerate(_averages(run)):
    # Everything is dropped, so that the 48 highest of all grow.
    bound = np.sort(np.abs(average).ravel())[-48]
    np.testing.assert_array_equal(run.masks()[k], np.abs(average) >= bound)
