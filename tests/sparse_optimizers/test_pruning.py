# SPDX-License-Identifier: Apache-2.0
"""Gradual pruning: the schedule's sparsity, and no way back."""

import numpy as np
import sparse_methods
from sparse_methods import Run


def _oracle(step, target):
  """The cubic schedule from step 0 to step 20."""
  return target * (1 - (1 - min(step / 20, 1)) ** 3)


def test_sparsity_follows_the_schedule_and_nothing_regrows():
  run = Run("prune", custom_sparsity_map={"layer2": 0.75})
  zeros = []
  for i in range(28):
    masks = run.masks()
    run.iterate(i)
    for before, after in zip(masks, run.masks(), strict=True):
      assert not np.any(after & ~before)
    zeros.append([96 - np.count_nonzero(mask) for mask in run.masks()])
  for i, found in enumerate(zeros):
    last = min(i - i % sparse_methods.FREQUENCY, 20)  # As published: from 0.
    expected = [round(96 * _oracle(last, target)) for target in (0.5, 0.75)]
    np.testing.assert_allclose(found, expected, atol=1)
  assert zeros[-1] == [48, 72]
  assert run.last_update() == 20


def test_the_smallest_weights_after_the_gradient_step_are_pruned():
  run = Run("prune", begin_step=4).train(10)  # At the steps 4, to 0, and 9.
  plain = Run("baseline").train(10)
  n_ones = 96 - round(96 * 0.5 * (1 - (1 - 5 / 16) ** 3))
  for k, weights in enumerate(plain.kernels()):
    mask = np.abs(weights) >= np.sort(np.abs(weights).ravel())[-n_ones]
    np.testing.assert_array_equal(run.masks()[k], mask)
    np.testing.assert_array_equal(run.kernels()[k], weights * mask)
  assert run.last_update() == 9 and int(run.step.numpy()) == 10
