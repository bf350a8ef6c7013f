# SPDX-License-Identifier: Apache-2.0
"""SNIP: masks by sensitivity, once."""

import numpy as np
from sparse_methods import Run


def test_the_first_iteration_keeps_the_most_sensitive_connections():
  run = Run("snip", custom_sparsity_map={"layer2": 0.75})
  kernels, biases = run.kernels(), [b.numpy() for b in run.model.biases]
  gradients = [g.numpy() for g, _ in run.gradients(0)[:2]]
  assert run.optimizer.steps_to_update(0) == 0
  run.iterate(0)
  for k, n_ones in enumerate((48, 24)):
    scores = np.abs(kernels[k] * gradients[k])
    mask = scores >= np.sort(scores.ravel())[-n_ones]
    assert np.count_nonzero(mask) == n_ones
    np.testing.assert_array_equal(run.masks()[k], mask)
    np.testing.assert_array_equal(run.kernels()[k], kernels[k] * mask)
    np.testing.assert_array_equal(run.model.biases[k], biases[k])
  assert bool(run.optimizer.is_snipped.numpy())
  assert int(run.step.numpy()) == 0


def test_all_other_iterations_are_gradient_steps_with_these_masks():
  run = Run("snip").train(1)
  masks = run.masks()
  assert run.optimizer.steps_to_update(0) is None
  run.train(5, 1)
  assert int(run.step.numpy()) == 5
  for a, b in zip(masks, run.masks(), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_run_that_starts_later_is_not_snipped():
  run = Run("snip")
  run.step.assign(3)
  run.train(2)
  assert not bool(run.optimizer.is_snipped.numpy())
  assert int(run.step.numpy()) == 5
  assert all(mask.all() for mask in run.masks())
