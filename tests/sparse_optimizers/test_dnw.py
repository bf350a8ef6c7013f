# SPDX-License-Identifier: Apache-2.0
"""DNW: dense weights, and the kernel as their largest."""

import numpy as np
from sparse_methods import Run


def _dense(run):
  return [
    run.optimizer.dense_weights(layer).numpy() for layer in run.optimizer.layers
  ]


def test_dense_weights_take_dense_gradients_of_the_sparse_network():
  run = Run("dnw", "sgd", weight_decay=10.0)
  dense = run.kernels()
  returned = False
  for i in range(8):
    gradients = [g.numpy() for g, _ in run.gradients(i)[:2]]
    masks = run.masks()
    run.iterate(i)
    for k in range(2):
      dense[k] = dense[k] - np.float32(0.1) * gradients[k]
      np.testing.assert_allclose(_dense(run)[k], dense[k], atol=1e-6)
      bound = np.sort(np.abs(_dense(run)[k]).ravel())[-48]
      mask = np.abs(_dense(run)[k]) >= bound
      np.testing.assert_array_equal(run.masks()[k], mask)
      expected = np.where(mask, _dense(run)[k], 0.0)
      np.testing.assert_array_equal(run.kernels()[k], expected)
      returned |= bool(np.any(mask & ~masks[k]))
  assert returned  # Connections come back, with the weight they had by then.


def test_slots_of_inactive_connections_live_on():
  run = Run("dnw").train(4)
  for slot, mask in zip(run.slots()["momentum"], run.masks(), strict=True):
    assert np.all(slot[~mask] != 0) or np.any(slot[~mask])


def test_the_count_is_exact_from_the_first_step_on():
  run = Run("dnw")
  for i in range(4):
    run.iterate(i)
    assert [np.count_nonzero(mask) for mask in run.masks()] == [48, 48]


def test_step_takes_gradients_of_kernels_as_they_come():
  run = Run("dnw", "sgd", weight_decay=10.0)
  pairs = list(run.gradients(0))
  found = run.optimizer.step_gradients(pairs)
  kernels = [id(layer.kernel) for layer in run.optimizer.layers]
  assert len(found) == len(pairs) > 1
  for (step, _), (gradient, variable) in zip(found, pairs, strict=True):
    expected = np.asarray(gradient)
    if id(variable) not in kernels and variable.shape.rank > 1:
      expected = expected + 10.0 * variable.numpy()
    np.testing.assert_allclose(step, expected, rtol=1e-6)
