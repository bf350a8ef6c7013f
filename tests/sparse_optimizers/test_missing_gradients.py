# SPDX-License-Identifier: Apache-2.0
"""Sparse kernels without a gradient: frozen layers, GANs, unfreezing."""

import warnings

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, Run

# Methods whose updates need no gradient, and which update some masks.
WITHOUT = ["set", "static", "momentum", "prune"]


def _without(run, i, missing=1):
  """The gradients of batch i, all but that of one kernel."""
  frozen = run.model.kernels[missing]
  return [(None if v is frozen else g, v) for g, v in run.gradients(i)]


def _of_layer(run, layer):
  """Everything that belongs to a layer."""
  return {
    name: value
    for name, value in run.state().items()
    if name.startswith((f"{layer}/weights", f"{layer}/mask"))
  }


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_a_gradient_step_leaves_the_layer_and_moves_the_others(name, absent):
  run = Run(name).train(2)
  before = {layer: _of_layer(run, layer) for layer in ("layer1", "layer2")}
  biases = run.model.biases[1].numpy()
  pairs = [(g, v) for g, v in _without(run, 2) if g is not None or not absent]
  run.optimizer.apply_masked_gradients(pairs, run.step)
  sparse_methods.assert_same_bits(before["layer2"], _of_layer(run, "layer2"))
  assert np.any(
    before["layer1"]["layer1/weights:0"] != run.model.kernels[0].numpy()
  )
  assert np.any(biases != run.model.biases[1].numpy())


@pytest.mark.parametrize("name", WITHOUT)
def test_updates_that_need_no_gradient_go_on(name):
  run, other = Run(name), Run(name)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    for i in range(FREQUENCY + 3):
      run.optimizer.apply_gradients(_without(run, i), run.step)
      other.iterate(i)
  assert run.step.numpy() == FREQUENCY + 3
  assert run.last_update() == other.last_update()
  for mask, kernel in zip(run.masks(), run.kernels(), strict=True):
    assert not kernel[~mask].any()
    assert np.count_nonzero(mask) == np.count_nonzero(other.masks()[0])


def test_rigl_keeps_the_mask_of_the_layer_and_says_so():
  run, all_given = Run("rigl"), Run("rigl")
  before = _of_layer(run, "layer2")
  with pytest.warns(UserWarning, match=r"\['layer2'\].*grows.*masks stay"):
    run.optimizer.apply_gradients(_without(run, 0), run.step)
  all_given.iterate(0)
  assert run.step.numpy() == 0 and run.last_update() == 0  # It was an update.
  sparse_methods.assert_same_bits(before, _of_layer(run, "layer2"))
  sparse_methods.assert_same_bits(
    _of_layer(all_given, "layer1"), _of_layer(run, "layer1")
  )
  assert run.optimizer.changed_in_last_update()["layer2"] == 0
  # The layer is updated again as soon as it has a gradient.
  for i in range(1, FREQUENCY + 2):
    run.iterate(i)
  assert run.optimizer.changed_in_last_update()["layer2"] > 0


def test_rigl_without_any_gradient_of_a_sparse_layer_is_refused():
  run = Run("rigl")
  before = run.state()
  biases = [(tf.ones_like(b), b) for b in run.model.biases]
  with pytest.raises(ValueError, match=r"sparse layers \['layer1', 'layer2'\]"):
    run.optimizer.apply_gradients(biases, run.step)
  sparse_methods.assert_same_bits(before, run.state())
  run.iterate(0)
  run.optimizer.apply_gradients(biases, run.step)  # A gradient step.
  assert run.step.numpy() == 1


def test_snip_needs_all_gradients_once():
  run = Run("snip")
  before = run.state()
  with pytest.raises(ValueError, match=r"SNIP.*first iteration.*'layer2'"):
    run.optimizer.apply_gradients(_without(run, 0), run.step)
  sparse_methods.assert_same_bits(before, run.state())
  run.iterate(0)
  run.optimizer.apply_gradients(_without(run, 1), run.step)
  assert [np.count_nonzero(mask) for mask in run.masks()] == [48, 48]


def test_dnw_prunes_a_layer_when_it_gets_its_first_gradient():
  run = Run("dnw")
  for i in range(3):
    run.optimizer.apply_gradients(_without(run, i), run.step)
  assert [np.count_nonzero(mask) for mask in run.masks()] == [48, 96]
  run.iterate(3)
  assert [np.count_nonzero(mask) for mask in run.masks()] == [48, 48]


@pytest.mark.parametrize("name", ["rigl", "set", "momentum"])
def test_two_players_step_in_turns(name):
  """As in a GAN: each step has the gradients of one network alone."""
  run = Run(
    name, "adam", **({"initial_acc_scale": 0.0} if name == "rigl" else {})
  )
  moved = [False, False]
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for i in range(4 * FREQUENCY):
      masks = run.masks()
      run.optimizer.apply_gradients(_without(run, i, i % 2), run.step)
      for j, mask in enumerate(run.masks()):
        moved[j] |= bool((mask != masks[j]).any())
        assert not run.kernels()[j][~mask].any()
        assert np.count_nonzero(mask) == 48
  assert all(moved) or name == "rigl"


@pytest.mark.parametrize("name", ["rigl", "set", "dnw"])
def test_a_compiled_step_leaves_the_layer_too(name):
  run, eager = Run(name), Run(name)
  for each in (run, eager):
    each.iterate(0)
  before = _of_layer(run, "layer2")
  step = tf.function(
    lambda i: (
      run.optimizer.apply_masked_gradients(_without(run, i), run.step) and None
    ),
    autograph=False,
  )
  for i in (1, 2):
    step(tf.constant(i))
    eager.optimizer.apply_masked_gradients(_without(eager, i), eager.step)
  sparse_methods.assert_same_bits(before, _of_layer(run, "layer2"))
  sparse_methods.assert_close(eager.state(), run.state())
