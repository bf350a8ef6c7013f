# SPDX-License-Identifier: Apache-2.0
"""RigL: what an update reads, changes and leaves."""

import numpy as np
import pytest
import sparse_methods
from sparse_methods import FREQUENCY, Run

FRACTION = 0.4


def _before_update(inner="momentum", **options):
  """A run in which the next iteration, with batch 7, is an update."""
  defaults = dict(
    grow_init="zeros", begin_step=7, noise_std=0.0, initial_acc_scale=0.0
  )
  return Run("rigl", inner, **{**defaults, **options}).train(7)


def _oracle(weights, mask, gradient):
  """New mask and the connections that begin anew, by sorting."""
  n_ones = np.count_nonzero(mask)
  n_prune = int(np.float32(n_ones) * np.float32(FRACTION))
  drop = np.where(mask, np.abs(weights), -1.0).ravel()
  kept = np.zeros(mask.size, bool)
  kept[np.argsort(-drop, kind="stable")[: n_ones - n_prune]] = True
  grow = np.where(kept, -1.0, np.abs(gradient).ravel())
  grown = np.zeros(mask.size, bool)
  grown[np.argsort(-grow, kind="stable")[:n_prune]] = True
  mask_after = (kept | grown).reshape(mask.shape)
  return mask_after, mask_after & ~mask


def _update(run):
  """Makes the update; gradients, masks, weights and slots before it."""
  gradients = [g.numpy() for g, _ in run.gradients(7)[:2]]
  before = (run.masks(), run.kernels(), run.slots().get("momentum"))
  run.iterate(7)
  return (gradients, *before)


def test_connections_of_the_highest_gradient_grow():
  run = _before_update()
  gradients, masks, kernels, slots = _update(run)
  back = 0
  for i in range(2):
    mask, new = _oracle(kernels[i], masks[i], gradients[i])
    np.testing.assert_array_equal(run.masks()[i], mask)
    kept = mask & ~new
    expected = np.where(kept, kernels[i], 0.0)
    np.testing.assert_array_equal(run.kernels()[i], expected)
    expected = np.where(kept, slots[i], 0.0)
    np.testing.assert_array_equal(run.slots()["momentum"][i], expected)
    n_prune = int(np.float32(masks[i].sum()) * np.float32(FRACTION))
    back += n_prune - np.count_nonzero(new)
  assert back > 0  # Dropped and grown at once: these keep their weights.


def test_an_update_is_an_iteration_without_a_step():
  run = _before_update()
  biases = [bias.numpy() for bias in run.model.biases]
  assert run.optimizer.steps_to_update(int(run.step.numpy())) == 0
  run.iterate(7)
  assert int(run.step.numpy()) == run.last_update() == 7
  for before, bias in zip(biases, run.model.biases, strict=True):
    np.testing.assert_array_equal(before, bias)
  assert run.optimizer.steps_to_update(7) == FREQUENCY
  run.iterate(8)
  assert int(run.step.numpy()) == 8
  for before, bias in zip(biases, run.model.biases, strict=True):
    assert np.any(before != bias.numpy())


def test_iterations_are_steps_and_updates():
  run = Run("rigl").train(25)
  # Updates at the steps 0, 5, 10, 15 and 20.
  assert int(run.step.numpy()) == 20
  assert run.last_update() == 20


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_slots_of_new_connections_start_at_scaled_gradients(scale):
  run = _before_update(initial_acc_scale=scale)
  gradients, masks, _, slots = _update(run)
  for i in range(2):
    new = run.masks()[i] & ~masks[i]
    slot = run.slots()["momentum"][i]
    expected = np.float32(scale) * gradients[i]
    np.testing.assert_allclose(slot[new], expected[new], rtol=1e-6)
    kept = run.masks()[i] & masks[i]
    np.testing.assert_array_equal(slot[kept], slots[i][kept])


def test_every_slot_of_adam_starts_at_scaled_gradients():
  run = _before_update("adam", initial_acc_scale=0.3)
  gradients, masks, _, _ = _update(run)
  new = run.masks()[0] & ~masks[0]
  assert new.any()
  for slot in run.slots().values():
    np.testing.assert_allclose(slot[0][new], 0.3 * gradients[0][new], rtol=1e-5)


@pytest.mark.parametrize(
  ("grow_init", "value"),
  [
    ("grad_scale", lambda g: g),
    ("grad_scale_4", lambda g: g / 4),
    ("grad_sign", np.sign),
    ("grad_sign_10", lambda g: np.sign(g) / 10),
  ],
)
def test_new_weights_start_by_their_gradient(grow_init, value):
  run = _before_update(grow_init=grow_init)
  gradients, masks, _, _ = _update(run)
  new = run.masks()[0] & ~masks[0]
  assert new.any()
  weights = run.kernels()[0][new]
  np.testing.assert_allclose(weights, value(gradients[0])[new], rtol=1e-6)


def test_the_batch_of_an_update_serves_for_the_gradient_alone():
  """Two batches that lead to the same masks lead to the same state."""
  runs = [_before_update(), _before_update()]
  gradients = runs[0].gradients(7)
  for factor, run in zip((1.0, 2.0), runs, strict=True):
    variables = run.model.all_variables
    scaled = [
      (factor * g, v) for (g, _), v in zip(gradients, variables, strict=True)
    ]
    run.optimizer.apply_gradients(scaled, run.step)
  sparse_methods.assert_same_bits(*(run.state() for run in runs))
