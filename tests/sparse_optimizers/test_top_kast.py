# SPDX-License-Identifier: Apache-2.0
"""Top-KAST: the sets, what is trained, and its penalty."""

import warnings

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import Run

from rigl import sparse_utils

RATE, MOMENTUM = np.float32(0.1), np.float32(0.9)
N_FORWARD, N_BACKWARD = 48, 72


def _dense(run):
  return [
    run.optimizer.dense_weights(layer).numpy() for layer in run.optimizer.layers
  ]


def _backward(run):
  return [
    run.optimizer.backward_mask(layer).numpy() for layer in run.optimizer.layers
  ]


def _largest(weights, count):
  """The mask of the largest magnitudes; ties go to the lower index."""
  order = np.argsort(-np.abs(weights).ravel(), kind="stable")
  mask = np.zeros(weights.size, bool)
  mask[order[:count]] = True
  return mask.reshape(weights.shape)


def _assert_close(found, expected):
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


class Reference:
  """SGD with momentum under Top-KAST, in NumPy."""

  def __init__(self, weights, penalty):
    self.weights = [w.copy() for w in weights]
    self.slots = [np.zeros_like(w) for w in weights]
    self.penalty = np.float32(penalty)
    self.choose()

  def choose(self):
    self.forward = [_largest(w, N_FORWARD) for w in self.weights]
    self.backward = [_largest(w, N_BACKWARD) for w in self.weights]
    for slot, backward in zip(self.slots, self.backward, strict=True):
      slot[~backward] = 0.0

  def step(self, gradients):
    for k, gradient in enumerate(gradients):
      inside = self.backward[k]
      # The density of both layers is 1 / 2.
      factor = np.where(self.forward[k], np.float32(1.0), np.float32(2.0))
      total = gradient + self.penalty * factor * self.weights[k]
      self.slots[k] = np.where(inside, MOMENTUM * self.slots[k] + total, 0.0)
      self.weights[k] = self.weights[k] - RATE * self.slots[k]

  def kernels(self):
    return [
      np.where(mask, w, 0.0)
      for mask, w in zip(self.forward, self.weights, strict=True)
    ]


@pytest.mark.parametrize("frequency", [1, 3])
@pytest.mark.parametrize("decay, penalty", [(0.0, 0.1), (0.2, None), (0.3, 0)])
def test_steps_and_sets_are_those_of_the_paper(frequency, decay, penalty):
  run = Run(
    "top_kast",
    frequency=frequency,
    weight_decay=decay,
    exploration_penalty=penalty,
  )
  initial = sparse_methods.Model()
  reference = Reference(
    [kernel.numpy() for kernel in initial.kernels],
    decay if penalty is None else penalty,
  )
  came, due = False, 1
  for i in range(14):
    _assert_close(run.masks(), reference.forward)
    _assert_close(_backward(run), reference.backward)
    _assert_close(_dense(run), reference.weights)
    _assert_close(run.kernels(), reference.kernels())
    _assert_close(run.slots()["momentum"], reference.slots)
    before = reference.backward
    reference.step([g.numpy() for g, _ in run.gradients(i)[:2]])
    run.iterate(i)
    if i + 1 == due:
      reference.choose()
      due += frequency
      came |= any(
        np.any(new & ~old)
        for new, old in zip(reference.backward, before, strict=True)
      )
  assert came or not reference.penalty  # Weights from outside were trained.


@pytest.mark.parametrize("inner", [*sparse_methods.INNER, "ftrl", "proximal"])
def test_weights_outside_of_the_backward_set_never_move(inner, monkeypatch):
  v1 = tf.compat.v1.train
  others = {
    "ftrl": lambda: v1.FtrlOptimizer(0.1, l2_regularization_strength=0.1),
    "proximal": lambda: v1.ProximalGradientDescentOptimizer(
      0.1, l1_regularization_strength=0.05
    ),
  }
  for name, make in others.items():
    monkeypatch.setitem(sparse_methods.INNER, name, make)
  run = Run("top_kast", inner, weight_decay=0.1)
  fresh = {slot: values[0].flat[0] for slot, values in run.slots().items()}
  for i in range(13):
    dense, outside = _dense(run), [~mask for mask in _backward(run)]
    run.iterate(i)
    for old, new, off, mask, kernel in zip(
      dense, _dense(run), outside, run.masks(), run.kernels(), strict=True
    ):
      np.testing.assert_array_equal(old[off], new[off])
      assert np.all(old[~off] != new[~off])
      assert not kernel[~mask].any()
    for slot, values in run.slots().items():
      for value, backward in zip(values, _backward(run), strict=True):
        np.testing.assert_array_equal(value[~backward], fresh[slot])


def test_inactive_weights_of_the_backward_set_learn_and_become_active():
  run = Run("top_kast", "sgd", frequency=1)
  active = False
  for i in range(12):
    masks, dense = run.masks(), _dense(run)
    explored = [b & ~m for b, m in zip(_backward(run), masks, strict=True)]
    gradients = [g.numpy() for g, _ in run.gradients(i)[:2]]
    run.iterate(i)
    for k in range(2):
      expected = dense[k] - RATE * gradients[k]
      np.testing.assert_allclose(
        _dense(run)[k][explored[k]], expected[explored[k]], atol=1e-6
      )
      active |= bool(np.any(run.masks()[k] & explored[k]))
  assert active


def test_after_the_end_the_network_is_trained_under_a_fixed_mask():
  run = Run("top_kast", end_step=6).train(7)
  masks, backward = run.masks(), _backward(run)
  kernels = run.kernels()
  run.train(9, 7)
  _assert_close(run.masks(), masks)
  _assert_close(_backward(run), backward)
  for kernel, old in zip(run.kernels(), kernels, strict=True):
    assert np.any(kernel != old)


SHAPES = {"conv": (3, 3, 8, 16), "wide": (64, 100), "last": (100, 10)}


def _make(**options):
  kernels = {n: tf.Variable(tf.random.normal(s)) for n, s in SHAPES.items()}
  optimizer = sparse_methods.make("top_kast", **options)
  return optimizer, kernels


@pytest.mark.parametrize(
  "method", ["random", "erdos_renyi", "erdos_renyi_kernel"]
)
@pytest.mark.parametrize("forward, backward", [(0.9, 0.5), (0.98, None)])
def test_both_sets_have_the_numbers_of_the_distribution(
  method, forward, backward
):
  custom = {"conv": 0.4}
  optimizer, kernels = _make(
    default_sparsity=forward,
    backward_sparsity=backward,
    mask_init_method=method,
    custom_sparsity_map=custom,
  )
  optimizer.create_masks(kernels)
  backward = 2 * forward - 1 if backward is None else backward
  scaled = {"conv": 0.4 * backward / forward}
  wanted = sparse_utils.get_sparsities(SHAPES, method, forward, custom)
  trained = sparse_utils.get_sparsities(SHAPES, method, backward, scaled)
  assert optimizer.target_sparsities == wanted
  assert optimizer.backward_sparsities == trained
  for _ in range(2):
    for layer in optimizer.layers:
      mask, inside = layer.mask.numpy(), optimizer.backward_mask(layer).numpy()
      zeros = sparse_utils.get_n_zeros(mask.size, wanted[layer.name])
      outside = sparse_utils.get_n_zeros(mask.size, trained[layer.name])
      assert np.count_nonzero(~mask) == zeros
      assert np.count_nonzero(~inside) == outside
      assert not np.any(mask & ~inside)
    optimizer.update_masks()


def test_learned_sparsities_scale_for_the_backward_set():
  name = "resnet_model/initial_conv"
  kernel = tf.Variable(tf.random.normal([7, 7, 3, 64]))
  optimizer = sparse_methods.make(
    "top_kast",
    default_sparsity=0.9023,
    backward_sparsity=0.9023 / 2,
    mask_init_method="str",
  )
  optimizer.create_masks({name: kernel})
  learned = optimizer.target_sparsities[name]
  assert 0 < learned < 1
  assert optimizer.backward_sparsities[name] == pytest.approx(learned / 2)


def test_structured_sets_have_their_number_in_every_group():
  optimizer, kernels = _make(
    default_sparsity=0.5, backward_sparsity=0.25, structure="2:4"
  )
  del kernels["last"]
  optimizer.create_masks(kernels)
  optimizer.update_masks()
  for layer in optimizer.layers:
    for mask, ones in (
      (layer.mask.numpy(), 2),
      (optimizer.backward_mask(layer).numpy(), 3),
    ):
      groups = np.moveaxis(mask, -2, -1).reshape(-1, 4).sum(1)
      assert set(groups) == {ones}


def test_given_masks_are_active_until_the_first_update():
  run = Run("top_kast")
  given = {"layer1": np.eye(12, 8) == 0, "layer2": np.eye(8, 12) == 1}
  model = sparse_methods.Model()
  optimizer = sparse_methods.make("top_kast")
  optimizer.create_masks(model.kernels, given)
  for layer in optimizer.layers:
    mask = given[layer.name]
    np.testing.assert_array_equal(layer.mask.numpy(), mask)
    inside = optimizer.backward_mask(layer).numpy()
    assert not np.any(mask & ~inside)
    assert np.count_nonzero(inside) == max(np.count_nonzero(mask), N_BACKWARD)
  optimizer.update_masks()
  for layer, mask in zip(optimizer.layers, run.masks(), strict=True):
    np.testing.assert_array_equal(layer.mask.numpy(), mask)


def test_a_kernel_alone_chooses_the_sets_anew_and_loses_nothing(tmp_path):
  run = Run("top_kast")
  other = sparse_methods.Model(seed=9)
  path = tf.train.Checkpoint(kernels=other.kernels).write(str(tmp_path / "m"))
  tf.train.Checkpoint(kernels=run.model.kernels).read(path)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    run.optimizer.apply_masked_gradients(
      [(tf.zeros([8]), run.model.biases[0])], run.step
    )
  for dense, mask, inside, kernel, weights in zip(
    _dense(run),
    run.masks(),
    _backward(run),
    run.kernels(),
    other.kernels,
    strict=True,
  ):
    np.testing.assert_array_equal(dense, weights)
    np.testing.assert_array_equal(mask, _largest(dense, N_FORWARD))
    np.testing.assert_array_equal(inside, _largest(dense, N_BACKWARD))
    np.testing.assert_array_equal(kernel, np.where(mask, weights, 0.0))


def test_explored_weights_are_those_that_were_active():
  run = Run("top_kast", track_exploration=True, frequency=2)
  explored = run.masks()
  for i in range(9):
    run.iterate(i)
    explored = [e | m for e, m in zip(explored, run.masks(), strict=True)]
  shares = run.optimizer.explored_shares()
  assert list(shares.values()) == [mask.mean() for mask in explored]
  assert max(shares.values()) > 0.5


def test_regularization_loss_has_the_penalty_as_its_gradient():
  run = Run("top_kast", "sgd", weight_decay=0.2, exploration_penalty=0.3)
  variables = run.model.all_variables
  expected = sum(
    0.15 * np.sum(w[m] ** 2) + 0.3 * np.sum(w[b & ~m] ** 2)
    for w, m, b in zip(_dense(run), run.masks(), _backward(run), strict=True)
  )
  found = run.optimizer.regularization_loss(variables)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  plain = Run("top_kast", weight_decay=0.0)
  assert plain.optimizer.regularization_loss(plain.model.all_variables) == 0.0


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"backward_sparsity": 0.6}, "`backward_sparsity` must be at most.*0.5.*6"),
    ({"backward_sparsity": -0.1}, "`backward_sparsity`"),
    ({"backward_sparsity": float("nan")}, "`backward_sparsity`"),
    ({"backward_sparsity": "0.5"}, "`backward_sparsity`"),
    ({"default_sparsity": 1.0}, "`default_sparsity`"),
    ({"default_sparsity": None}, "`default_sparsity`"),
    ({"exploration_penalty": -1.0}, "`exploration_penalty`"),
    ({"exploration_penalty": float("inf")}, "`exploration_penalty`"),
    ({"track_exploration": 2}, "`track_exploration`"),
    ({"frequency": 0}, "`frequency`"),
  ],
)
def test_wrong_arguments_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    sparse_methods.make("top_kast", **options)


def test_sparsify_is_refused_with_a_reason():
  optimizer, kernels = _make()
  with pytest.raises(RuntimeError, match="largest weights: call create_masks"):
    optimizer.sparsify(kernels)
