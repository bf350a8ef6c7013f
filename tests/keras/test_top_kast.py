# SPDX-License-Identifier: Apache-2.0
"""Top-KAST for Keras: the sets, what is trained, its penalty, its files."""

import keras
import keras_models as suite
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as sparse_keras


def _optimizer(inner=None, **options):
  options = {
    "sparsity": 0.5,
    "backward_sparsity": 0.25,
    "distribution": "uniform",
    "mask_engine": "numpy",
    "frequency": 2,
  } | options
  return sparse_keras.TopKAST(inner or keras.optimizers.SGD(0.1), **options)


def _largest(weights, count):
  order = np.argsort(-np.abs(weights).ravel(), kind="stable")
  mask = np.zeros(weights.size, bool)
  mask[order[:count]] = True
  return mask.reshape(weights.shape)


def _values(variables):
  return [variable.numpy() for variable in variables.values()]


@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_steps_and_sets_are_those_of_the_paper(penalty):
  kernels = suite.two_kernels()
  weights = [kernel.numpy() for kernel in kernels]
  optimizer = _optimizer(exploration_penalty=penalty)
  optimizer.build(kernels)
  forward = [_largest(w, 24) for w in weights]
  backward = [_largest(w, 36) for w in weights]
  came = False
  for step in range(9):
    np.testing.assert_array_equal(_values(optimizer.masks), forward)
    np.testing.assert_array_equal(_values(optimizer.backward_masks), backward)
    for kernel, w, mask in zip(kernels, weights, forward, strict=True):
      np.testing.assert_allclose(kernel.numpy(), np.where(mask, w, 0), 1e-5)
    gradients = suite.gradients(step)
    optimizer.apply(gradients, kernels)
    for k, gradient in enumerate(gradients):
      factor = np.where(forward[k], 1.0, 2.0)  # 1 / D outside of A.
      moved = weights[k] - 0.1 * (gradient + penalty * factor * weights[k])
      weights[k] = np.where(backward[k], moved, weights[k]).astype("float32")
    if step % 2 == 0:  # After steps 1, 3, 5 ...
      came |= any(
        np.any(_largest(w, 36) & ~old)
        for w, old in zip(weights, backward, strict=True)
      )
      forward = [_largest(w, 24) for w in weights]
      backward = [_largest(w, 36) for w in weights]
  assert came


INNER = {
  "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
  "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
  "adam with decay": lambda: keras.optimizers.Adam(0.01, weight_decay=0.1),
  "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9),
  "ftrl": lambda: keras.optimizers.Ftrl(0.1, initial_accumulator_value=0.2),
  "lion": lambda: keras.optimizers.Lion(0.01),
}


@pytest.mark.parametrize("name", INNER)
def test_weights_outside_of_the_backward_set_never_move(name):
  kernels = suite.two_kernels()
  optimizer = _optimizer(INNER[name](), exploration_penalty=0.1)
  optimizer.build(kernels)
  for step in range(6):
    before = _values(optimizer.dense_weights)
    outside = [~mask for mask in _values(optimizer.backward_masks)]
    optimizer.apply(suite.gradients(step), kernels)
    for old, new, off in zip(
      before, _values(optimizer.dense_weights), outside, strict=True
    ):
      np.testing.assert_array_equal(old[off], new[off])
      assert np.any(old[~off] != new[~off])
    for kernel in optimizer.sparse_kernels:
      off = ~optimizer.backward_masks[kernel.path].numpy()
      for slot in kernel.slots.states:
        assert np.all(slot.variable.numpy()[off] == np.float32(slot.start))
      mask = optimizer.masks[kernel.path].numpy()
      assert not kernel.variable.numpy()[~mask].any()


def test_accumulated_gradients_and_scaled_losses_have_one_penalty():
  results = []
  for options, scale, calls in (
    ({}, 1.0, 1),
    ({"gradient_accumulation_steps": 2}, 1.0, 2),
    ({"loss_scale_factor": 8.0}, 8.0, 1),
  ):
    kernels = suite.two_kernels()
    inner = keras.optimizers.SGD(0.1, momentum=0.9, **options)
    optimizer = _optimizer(inner, exploration_penalty=0.3)
    optimizer.build(kernels)
    for step in range(5):
      for _ in range(calls):
        gradients = [gradient * scale for gradient in suite.gradients(step)]
        optimizer.apply(gradients, kernels)
    results.append(_values(optimizer.dense_weights))
  np.testing.assert_allclose(results[1], results[0], rtol=1e-5)
  np.testing.assert_allclose(results[2], results[0], rtol=1e-5)


def test_both_sets_have_the_numbers_of_the_distribution():
  model = suite.fresh("resnet")
  optimizer = _optimizer(
    sparsity=0.7, backward_sparsity=0.35, distribution={"dense": 0.4}
  )
  optimizer.build(model.trainable_variables)
  for path, mask in optimizer.masks.items():
    target = 0.4 if "dense" in path else 0.7
    inside, size = optimizer.backward_masks[path].numpy(), mask.numpy().size
    assert np.count_nonzero(~mask.numpy()) == int(target * size)
    assert np.count_nonzero(~inside) == int(target / 2 * size)
    assert not np.any(mask.numpy() & ~inside)


@pytest.mark.parametrize("way", ["keras", "checkpoint"])
def test_a_saved_model_goes_on_with_the_same_bits(way, tmp_path):
  images, classes = suite.data()
  network = suite.compiled(
    suite.fresh(),
    _optimizer(keras.optimizers.SGD(0.1, momentum=0.9), frequency=3),
    run_eagerly=True,
  )
  for _ in range(5):
    network.train_on_batch(images, classes)
  if way == "keras":
    network.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    other.run_eagerly = True
    config = other.optimizer.get_config()
    assert config["backward_sparsity"] == 0.25
    assert config["exploration_penalty"] == 1e-4
  else:
    path = tf.train.Checkpoint(model=network, opt=network.optimizer).write(
      str(tmp_path / "ckpt")
    )
    other = suite.compiled(
      suite.fresh(seed=5),
      _optimizer(keras.optimizers.SGD(0.1, momentum=0.9), frequency=3),
      run_eagerly=True,
    )
    tf.train.Checkpoint(model=other, opt=other.optimizer).read(path)
  for _ in range(4):
    network.train_on_batch(images, classes)
    other.train_on_batch(images, classes)
  suite.assert_same(suite.state(network), suite.state(other))


def test_weights_that_are_assigned_are_trained_on():
  for method in ("dnw", "top_kast"):
    kernels = suite.two_kernels()
    optimizer = suite.sparse_optimizer(method, keras.optimizers.SGD(0.1))
    optimizer.build(kernels)
    optimizer.apply(suite.gradients(0), kernels)
    mask = optimizer.masks["layer0/kernel"].numpy()
    kernels[0].assign(np.where(mask, 7.0, 0.0))
    optimizer.apply([tf.zeros([6, 8])] * 2, kernels)
    dense = optimizer.dense_weights["layer0/kernel"].numpy()
    np.testing.assert_allclose(dense[mask], 7.0, rtol=1e-2)


def test_weights_that_are_assigned_last_are_not_lost():
  kernels = suite.two_kernels()
  optimizer = _optimizer()
  optimizer.build(kernels)
  optimizer.apply(suite.gradients(0), kernels)
  mask = optimizer.masks["layer0/kernel"].numpy()
  kernels[0].assign(np.full([6, 8], 7.0))
  optimizer.finalize_variable_values(kernels)
  np.testing.assert_array_equal(kernels[0].numpy(), np.where(mask, 7.0, 0.0))


def test_explored_weights_are_those_that_were_active():
  kernels = suite.two_kernels()
  optimizer = _optimizer(track_exploration=True)
  optimizer.build(kernels)
  explored = _values(optimizer.masks)
  for step in range(6):
    optimizer.apply(suite.gradients(step), kernels)
    masks = _values(optimizer.masks)
    explored = [e | m for e, m in zip(explored, masks, strict=True)]
  np.testing.assert_array_equal(_values(optimizer.explored), explored)
  shares = list(optimizer.explored_shares().values())
  assert shares == [mask.mean() for mask in explored] and max(shares) > 0.5


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"backward_sparsity": 0.6}, "`backward_sparsity` must be at most.*0.5"),
    ({"backward_sparsity": -0.1}, "`backward_sparsity`"),
    ({"exploration_penalty": -1.0}, "`exploration_penalty`"),
    ({"exploration_penalty": None}, "`exploration_penalty`"),
    ({"frequency": 0}, "`frequency`"),
    ({"end_step": -5}, "`end_step` must be at least 0 or None, got -5"),
    ({"track_exploration": "yes"}, "`track_exploration`"),
    ({"sparsity": 1.5}, "`sparsity`"),
  ],
)
def test_wrong_arguments_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    _optimizer(**options)


def test_averages_are_refused():
  with pytest.raises(ValueError, match="of TopKAST must not average"):
    _optimizer(keras.optimizers.SGD(use_ema=True))
