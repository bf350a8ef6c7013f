# SPDX-License-Identifier: Apache-2.0
"""Other ways to train: accumulation, averages, own loops, frozen layers."""

import keras
import keras_models as suite
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as sparse_keras


def two_kernels():
  """Kernels of a made-up layer each, and constant gradients."""
  random = np.random.RandomState(2)
  kernels = [
    keras.Variable(random.randn(6, 8).astype("float32"), name="kernel")
    for _ in range(2)
  ]
  for number, kernel in enumerate(kernels):
    kernel._path = f"layer{number}/kernel"
  return kernels


def gradients(step):
  random = np.random.RandomState(10 + step)
  return [tf.constant(random.randn(6, 8), tf.float32) for _ in range(2)]


def masks_of(optimizer):
  return [mask.numpy() for mask in optimizer.masks.values()]


# --- Gradient accumulation ----------------------------------------------------


@pytest.mark.parametrize("method", ["rigl", "set", "snfs", "snip", "pruning"])
def test_accumulated_gradients_train_as_their_mean_does(method):
  """Masks, weights and the number of steps, at the end of every step."""
  results = []
  for parts in (1, 3):
    kernels = two_kernels()
    inner = keras.optimizers.SGD(
      0.1, gradient_accumulation_steps=parts if parts > 1 else None
    )
    optimizer = suite.sparse_optimizer(method, inner)
    seen = []
    for step in range(9):
      whole = gradients(step)
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
  kernels = two_kernels()
  inner = keras.optimizers.Adam(0.1, gradient_accumulation_steps=2)
  optimizer = suite.sparse_optimizer("rigl", inner)
  for step in range(10):
    optimizer.apply(gradients(step), kernels)
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
  kernels = two_kernels()
  optimizer = suite.sparse_optimizer(
    method, keras.optimizers.SGD(0.1, momentum=0.9)
  )
  optimizer.build(kernels)
  before = kernels[1].numpy()
  mask = masks_of(optimizer)[1]
  for step in range(5):
    with pytest.warns(UserWarning, match="Gradients do not exist"):
      optimizer.apply([gradients(step)[0], None], kernels)
      if method in ("rigl", "snip"):
        # An update takes no gradient step, which is what warns.
        import warnings

        warnings.warn("Gradients do not exist", stacklevel=1)
  if method != "dnw":
    np.testing.assert_array_equal(kernels[1].numpy(), before)
    np.testing.assert_array_equal(masks_of(optimizer)[1], mask)
  assert not np.array_equal(kernels[0].numpy(), two_kernels()[0].numpy())
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


# --- Arguments ----------------------------------------------------------------


@pytest.mark.parametrize(
  "name",
  [
    "learning_rate",
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "loss_scale_factor",
    "gradient_accumulation_steps",
  ],
)
@pytest.mark.parametrize("method", ["rigl", "fixed_mask", "dnw"])
def test_arguments_of_the_inner_optimizer_are_refused(method, name):
  with pytest.raises(ValueError, match=f"`{name}` belongs to the inner"):
    sparse_keras.METHODS[method]("sgd", **{name: 0.5})


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"sparsity": 1.0}, "`sparsity` must be in"),
    ({"sparsity": "0.9"}, "`sparsity` must be a number"),
    ({"distribution": "str"}, "`distribution` must be one of"),
    ({"distribution": {"a": 1.5}}, "`distribution` of 'a' must be in"),
    ({"distribution": {"(": 0.5}}, "`distribution` must have paths or regular"),
    ({"begin_step": -1}, "`begin_step` must be"),
    ({"end_step": -1}, "`end_step` must be"),
    ({"end_step": 2.5}, "`end_step` must be"),
    ({"begin_step": 5, "end_step": 3}, "`end_step` must be"),
    ({"frequency": 0}, "`frequency` must be"),
    ({"drop_fraction": 1.5}, "`drop_fraction` must be"),
    ({"anneal": "linear"}, "`anneal` must be"),
    ({"grow_init": "ones"}, "`grow_init` must be"),
    ({"seed": -1}, "`seed` must be"),
    ({"seed": 1.5}, "`seed` must be"),
    ({"noise_std": -1.0}, "`noise_std` must be"),
    ({"mask_engine": "fast"}, "`mask_engine` must be"),
    ({"filters": 3}, "`filters` must be"),
    ({"drop": 3}, "There is no argument `drop`"),
    ({"optimizer": "nonsense"}, "`optimizer` must be a Keras optimizer"),
    ({"optimizer": None}, "`optimizer` must be a Keras optimizer, got None"),
    ({"optimizer": 3}, "`optimizer` must be a Keras optimizer"),
    ({"optimizer": {}}, "`optimizer` must be a Keras optimizer"),
  ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
  with pytest.raises(ValueError, match=message):
    sparse_keras.RigL(**({"optimizer": "sgd"} | arguments))


@pytest.mark.parametrize(
  "optimizer",
  [
    "adamw",
    {"class_name": "SGD", "config": {"learning_rate": 0.5}},
    keras.optimizers.Lion(0.1),
  ],
)
def test_optimizers_are_taken_as_keras_takes_them(optimizer):
  sparse = sparse_keras.RigL(optimizer)
  assert isinstance(sparse.inner_optimizer, keras.optimizers.Optimizer)


def test_one_optimizer_serves_one_wrapper():
  inner = keras.optimizers.SGD(0.1)
  first, second = sparse_keras.RigL(inner), sparse_keras.SET(inner)
  kernels = two_kernels()
  first.build(kernels)
  with pytest.raises(ValueError, match="built already"):
    second.build(kernels)
  with pytest.raises(ValueError, match="built already"):
    sparse_keras.RigL(inner)
  with pytest.raises(ValueError, match="sparse one already"):
    sparse_keras.RigL(sparse_keras.SET("sgd"))


@pytest.mark.parametrize(
  ("distribution", "message"),
  [
    ({"nothing": 0.5}, "'nothing', which matches none of"),
    ({"layer": 0.5, "0": 0.2}, "match 'layer0/kernel'"),
  ],
)
def test_sparsities_that_match_nothing_or_twice_are_refused(
  distribution, message
):
  optimizer = sparse_keras.RigL("sgd", distribution=distribution)
  kernels = two_kernels()
  before = [kernel.numpy() for kernel in kernels]
  with pytest.raises(ValueError, match=message):
    optimizer.build(kernels)
  for kernel, value in zip(kernels, before, strict=True):
    np.testing.assert_array_equal(kernel.numpy(), value)


def test_sparsities_by_path_and_regex():
  optimizer = sparse_keras.RigL(
    "sgd", 0.75, distribution={"layer0/kernel": 0.25}
  )
  optimizer.build(two_kernels())
  assert optimizer.sparsities == {"layer0/kernel": 0.25, "layer1/kernel": 0.75}
  optimizer = sparse_keras.RigL(
    "sgd", 0.5, distribution={"layer0/kernel": 0.0, "layer.": 0.75}
  )
  optimizer.build(two_kernels())
  assert optimizer.sparsities == {"layer0/kernel": 0.0, "layer1/kernel": 0.75}


def test_the_learning_rate_is_that_of_the_inner_optimizer():
  schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.1])
  scheduled = suite.sparse_optimizer("set", keras.optimizers.SGD(schedule))
  kernels = two_kernels()
  rates = []
  for step in range(5):
    rates.append(float(scheduled.learning_rate))
    scheduled.apply(gradients(step), kernels)
  np.testing.assert_allclose(rates, [0.5, 0.5, 0.5, 0.1, 0.1])
  optimizer = sparse_keras.RigL(keras.optimizers.SGD(0.5))
  optimizer.learning_rate = 0.25
  assert float(optimizer.inner_optimizer.learning_rate.numpy()) == 0.25
  assert float(optimizer.learning_rate.numpy()) == 0.25


def test_callbacks_set_the_learning_rate():
  network = suite.compiled(
    suite.fresh(),
    suite.sparse_optimizer("rigl", keras.optimizers.SGD(0.5)),
    run_eagerly=True,
  )
  images, classes = suite.data()
  network.fit(
    images,
    classes,
    batch_size=8,
    verbose=0,
    callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.125)],
  )
  assert float(network.optimizer.inner_optimizer.learning_rate.numpy()) == 0.125


def test_calls_that_do_not_fit_are_refused():
  optimizer = suite.sparse_optimizer("rigl", "sgd")
  kernels = two_kernels()
  with pytest.raises(ValueError, match="first call of `apply`"):
    optimizer.apply(gradients(0))
  with pytest.raises(ValueError, match="one gradient for each of 2"):
    optimizer.apply(gradients(0)[:1], kernels)
  with pytest.raises(RuntimeError, match="no summary"):
    optimizer.summary()
  optimizer.apply(gradients(0), kernels)
  optimizer.apply(gradients(1))
  with pytest.raises(ValueError, match="Unknown variable"):
    optimizer.apply(gradients(0), two_kernels())
