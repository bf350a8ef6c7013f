# SPDX-License-Identifier: Apache-2.0
"""Other ways to train: accumulation, averages, own loops, frozen layers."""

import warnings

import keras
import keras_models as suite
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as sparse_keras


def masks_of(optimizer):
  return [mask.numpy() for mask in optimizer.masks.values()]


# --- Gradient accumulation ----------------------------------------------------


@pytest.mark.parametrize("method", ["rigl", "set", "snfs", "snip", "pruning"])
def test_accumulated_gradients_train_as_their_mean_does(method):
  """Masks, weights and the number of steps, at the end of every step."""
  results = []
  for parts in (1, 3):
    kernels = suite.two_kernels()
    inner = keras.optimizers.SGD(
      0.1, gradient_accumulation_steps=parts if parts > 1 else None
    )
    optimizer = suite.sparse_optimizer(method, inner)
    seen = []
    for step in range(9):
      whole = suite.gradients(step)
      for part in range(parts):
        # They differ, and their mean is the whole gradient.
        shift = (part - (parts - 1) / 2) * 0.5
        optimizer.apply([g + shift for g in whole], kernels)
        for kernel, mask in zip(kernels, masks_of(optimizer), strict=True):
          assert np.all(kernel.numpy()[~mask] == 0)
      seen += [*masks_of(optimizer), *(k.numpy() for k in kernels)]
      seen.append(np.array(int(optimizer.iterations)))
    results.append(seen)
  for one, other in zip(*results, strict=True):
    if one.dtype == bool:
      np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_accumulated_gradients_of_inactive_connections_reach_no_slot():
  kernels = suite.two_kernels()
  inner = keras.optimizers.Adam(0.1, gradient_accumulation_steps=2)
  optimizer = suite.sparse_optimizer("rigl", inner)
  for step in range(10):
    optimizer.apply(suite.gradients(step), kernels)
    for kernel, mask in zip(
      optimizer._kernels, masks_of(optimizer), strict=True
    ):
      for slot in kernel.slots.states:
        assert np.all(slot.variable.numpy()[~mask] == 0)


# --- Averages -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["rigl", "set", "fixed_mask", "pruning"])
@pytest.mark.parametrize("overwrite", [None, 2])
def test_averages_never_revive_weights_after_fit(method, overwrite):
  inner = keras.optimizers.SGD(
    0.1,
    use_ema=True,
    ema_momentum=0.9,
    ema_overwrite_frequency=overwrite,
  )
  network = suite.compiled(
    suite.fresh(), suite.sparse_optimizer(method, inner), run_eagerly=True
  )
  images, classes = suite.data()
  network.fit(images, classes, batch_size=4, epochs=2, verbose=0)
  suite.check_promises(network)
  averages = inner._model_variables_moving_average
  for variable, average in zip(
    network.trainable_variables, averages, strict=True
  ):
    mask = network.optimizer.masks.get(variable.path)
    if mask is not None:
      assert np.all(average.numpy()[~mask.numpy()] == 0)
    # `fit` ends with the averages in the model.
    np.testing.assert_array_equal(variable.numpy(), average.numpy())


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_swapped_averages_are_sparse_as_well(policy):
  class Look(keras.callbacks.Callback):
    seen = 0

    def on_test_end(self, logs=None):
      del logs
      suite.check_promises(self.model)
      self.seen += 1

  keras.config.set_dtype_policy(policy)
  try:
    inner = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    network = suite.compiled(
      suite.fresh(), suite.sparse_optimizer("rigl", inner), run_eagerly=True
    )
    images, classes = suite.data()
    look = Look()
    network.fit(
      images,
      classes,
      validation_data=(images, classes),
      batch_size=8,
      epochs=2,
      verbose=0,
      # `look` comes first, and sees the averages.
      callbacks=[look, keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
    )
  finally:
    keras.config.set_dtype_policy("float32")
  assert look.seen == 2
  suite.check_promises(network)


def test_dnw_refuses_averages():
  with pytest.raises(ValueError, match="must not average"):
    sparse_keras.DNW(keras.optimizers.SGD(use_ema=True))


# --- Loops of one's own -------------------------------------------------------


def loss_of(network, images, classes):
  logits = network(images, training=True)
  return tf.reduce_mean(
    keras.losses.sparse_categorical_crossentropy(
      classes, logits, from_logits=True
    )
  )


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
def test_own_loops_need_not_build_the_optimizer(in_graph, pairs):
  network = suite.fresh("resnet")
  optimizer = suite.sparse_optimizer("rigl", keras.optimizers.SGD(0.1))
  images, classes = suite.data()

  def step():
    with tf.GradientTape() as tape:
      loss = loss_of(network, images, classes)
    variables = network.trainable_variables
    grads = tape.gradient(loss, variables)
    if pairs:
      optimizer.apply_gradients(zip(grads, variables, strict=True))
    else:
      optimizer.apply(grads, variables)

  run = tf.function(step) if in_graph else step
  for _ in range(5):
    run()
    for variable in network.trainable_variables:
      mask = optimizer.masks.get(variable.path)
      if mask is not None:
        assert np.all(variable.numpy()[~mask.numpy()] == 0)
  assert int(optimizer.iterations) == 3  # Two of five were updates.


def test_a_graph_starts_from_masked_weights():
  """The gradient of the first step is that of the sparse network."""
  seen = []

  class Seen(keras.Sequential):
    def train_step(self, data):
      tf.py_function(
        lambda: seen.append(self.trainable_variables[0].numpy()), [], []
      )
      return super().train_step(data)

  network = Seen(
    [
      keras.Input((6, 6, 2)),
      keras.layers.Flatten(),
      keras.layers.Dense(suite.CLASSES),
    ]
  )
  optimizer = suite.sparse_optimizer("fixed_mask", "sgd")
  suite.compiled(network, optimizer, jit_compile=False)
  network.train_on_batch(*suite.data())
  (mask,) = masks_of(optimizer)
  assert np.all(seen[0][~mask] == 0)
  assert np.any(seen[0][mask] != 0)


def test_sparsify_masks_the_weights_of_a_built_model_at_once():
  network = suite.fresh()
  optimizer = sparse_keras.sparsify(network, "sgd", "rigl", 0.5)
  assert optimizer.built
  suite.check_promises(suite.compiled(network, optimizer))
  assert (
    abs(
      1 - np.concatenate([m.ravel() for m in masks_of(optimizer)]).mean() - 0.5
    )
    < 0.01
  )
  later = suite.fresh("transformer")
  assert not sparse_keras.sparsify(later).built
  with pytest.raises(ValueError, match="`method` must be one of"):
    sparse_keras.sparsify(network, method="lottery")
  with pytest.raises(ValueError, match="`model` must be a Keras model"):
    sparse_keras.sparsify("sgd")


# --- Variables that come and go -----------------------------------------------


@pytest.mark.parametrize("method", sorted(sparse_keras.METHODS))
def test_a_variable_without_gradient_keeps_weights_and_mask(method):
  kernels = suite.two_kernels()
  optimizer = suite.sparse_optimizer(
    method, keras.optimizers.SGD(0.1, momentum=0.9)
  )
  optimizer.build(kernels)
  before = kernels[1].numpy()
  mask = masks_of(optimizer)[1]
  for step in range(5):
    with warnings.catch_warnings():
      # Keras warns in every gradient step.
      warnings.simplefilter("ignore")
      optimizer.apply([suite.gradients(step)[0], None], kernels)
  if method != "dnw":
    np.testing.assert_array_equal(kernels[1].numpy(), before)
    np.testing.assert_array_equal(masks_of(optimizer)[1], mask)
  assert not np.array_equal(kernels[0].numpy(), suite.two_kernels()[0].numpy())
  with pytest.raises(ValueError, match="a gradient for some variable"):
    optimizer.apply([None, None], kernels)


def test_frozen_layers_are_left_alone_and_unfrozen_ones_refused():
  network = suite.fresh("resnet")
  frozen = network.layers[1]
  frozen.trainable = False
  before = frozen.kernel.numpy()
  optimizer = suite.sparse_optimizer("rigl", keras.optimizers.SGD(0.1))
  suite.compiled(network, optimizer, run_eagerly=True)
  network.train_on_batch(*suite.data())
  assert frozen.kernel.path not in optimizer.masks
  np.testing.assert_array_equal(frozen.kernel.numpy(), before)
  frozen.trainable = True
  with pytest.raises(ValueError, match="Unknown variable"):
    network.train_on_batch(*suite.data())


def test_layers_that_are_frozen_later_keep_their_masks():
  network = suite.fresh("resnet")
  optimizer = suite.sparse_optimizer("rigl", keras.optimizers.SGD(0.1))
  suite.compiled(network, optimizer, run_eagerly=True)
  for _ in range(3):
    network.train_on_batch(*suite.data())
  frozen = network.layers[1]
  mask, before = (
    optimizer.masks[frozen.kernel.path].numpy(),
    frozen.kernel.numpy(),
  )
  frozen.trainable = False
  for _ in range(3):
    network.train_on_batch(*suite.data())
  np.testing.assert_array_equal(optimizer.masks[frozen.kernel.path], mask)
  np.testing.assert_array_equal(frozen.kernel.numpy(), before)
  assert np.all(before[~mask] == 0)


# --- Other optimizers ---------------------------------------------------------


@pytest.mark.parametrize("second", ["rigl", "fixed_mask", "snfs"])
def test_a_second_optimizer_keeps_the_weights_of_the_first(second):
  network = suite.fresh("cnn")
  first = suite.sparse_optimizer("rigl", keras.optimizers.SGD(0.1))
  suite.compiled(network, first, run_eagerly=True)
  for _ in range(8):
    network.train_on_batch(*suite.data())
  number, weights = suite.counts(network), network.get_weights()
  optimizer = suite.sparse_optimizer(second, "sgd", seed=9)
  suite.compiled(network, optimizer, run_eagerly=True)
  optimizer.build(network.trainable_variables)
  suite.assert_same(weights, network.get_weights())
  suite.check_promises(network)
  assert suite.counts(network) == number


def test_a_second_optimizer_of_higher_sparsity_has_its_own_masks():
  network = suite.fresh("cnn")
  first = suite.sparse_optimizer("fixed_mask", "sgd")
  first.build(network.trainable_variables)
  second = sparse_keras.FixedMask("sgd", 0.9, mask_engine="numpy")
  second.build(network.trainable_variables)
  fresh = sparse_keras.FixedMask("sgd", 0.9, mask_engine="numpy")
  fresh.build(suite.fresh("cnn").trainable_variables)
  for mine, drawn in zip(masks_of(second), masks_of(fresh), strict=True):
    np.testing.assert_array_equal(mine, drawn)
