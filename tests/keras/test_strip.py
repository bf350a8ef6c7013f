# SPDX-License-Identifier: Apache-2.0
"""`strip` gives the plain model, with its weights and optimizer state."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as rk

RNG = np.random.default_rng(0)
X = RNG.normal(size=[64, 8]).astype("float32")
Y = RNG.normal(size=[64, 3]).astype("float32")


def sequential():
  return keras.Sequential(
    [
      keras.Input([8]),
      keras.layers.Dense(16, "relu"),
      keras.layers.BatchNormalization(),
      keras.layers.Dropout(0.2),
      keras.layers.Dense(3),
    ]
  )


def nested():
  inputs = keras.Input([8])
  hidden = keras.layers.Dense(8, "relu", name="shared")
  body = keras.Sequential([keras.Input([8]), keras.layers.Dense(8)])
  outputs = keras.layers.Dense(3)(hidden(body(hidden(inputs))))
  return keras.Model(inputs, outputs)


class Subclassed(keras.Model):
  def __init__(self, units=16):
    super().__init__()
    self.hidden = keras.layers.Dense(units, "relu")
    self.last = keras.layers.Dense(3)

  def call(self, inputs):
    return self.last(self.hidden(inputs))


class NotCopied(Subclassed):
  def __init__(self, make_layer):
    super().__init__()
    self.hidden = make_layer()


def rigl_around(optimizer, sparsity=0.8, **arguments):
  return rk.RigL(
    optimizer, sparsity, frequency=3, mask_engine="numpy", **arguments
  )


def trained(model, optimizer, epochs=2, **settings):
  model.compile(optimizer, "mse", **settings)
  model.fit(X, Y, 16, epochs, shuffle=False, verbose=0)
  return model


def values(variables):
  return [keras.ops.convert_to_numpy(each) for each in variables]


def assert_equal(ours, theirs):
  assert len(ours) == len(theirs)
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [sequential, nested, Subclassed])
@pytest.mark.parametrize("in_place", [False, True])
def test_weights_and_state_are_those_of_the_inner_optimizer(make, in_place):
  model = trained(make(), rigl_around("adam"))
  weights = values(model.get_weights())
  state = values(model.optimizer.inner_optimizer.variables)
  plain = rk.strip(model, in_place)
  assert (plain is model) == in_place
  assert type(plain) is type(model)
  assert type(plain.optimizer) is keras.optimizers.Adam
  assert_equal(values(plain.get_weights()), weights)
  assert_equal(values(plain.optimizer.variables), state)


@pytest.mark.parametrize(
  "optimizer",
  [
    lambda: keras.optimizers.SGD(0.1, 0.9, nesterov=True),
    lambda: keras.optimizers.AdamW(
      keras.optimizers.schedules.CosineDecay(0.01, 20), clipnorm=1.0
    ),
    lambda: keras.optimizers.RMSprop(use_ema=True, ema_overwrite_frequency=4),
    lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    lambda: keras.optimizers.Adafactor(epsilon_1=1e-10),
  ],
)
def test_any_optimizer_trains_on_as_it_would_have_alone(optimizer):
  """With masks that leave everything active, strip changes nothing."""
  model, dense = sequential_without_dropout(), sequential_without_dropout()
  dense.set_weights(model.get_weights())
  trained(dense, optimizer(), 2)
  trained(model, rk.FixedMask(optimizer(), 0.0), 2)
  plain = rk.strip(model)
  for each in (plain, dense):
    each.fit(X, Y, 16, 2, shuffle=False, verbose=0)
  for one, other in zip(plain.get_weights(), dense.get_weights(), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def sequential_without_dropout():
  return keras.Sequential(
    [keras.Input([8]), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
  )


def test_the_argument_goes_on_training_sparsely():
  model = trained(
    sequential(), rk.SET("sgd", 0.8, frequency=3, mask_engine="numpy")
  )
  plain = rk.strip(model)
  before = values(plain.get_weights())
  model.fit(X, Y, 16, 2, verbose=0)
  assert_equal(values(plain.get_weights()), before)
  kernels = {variable.path: variable for variable in model.weights}
  for path, mask in model.optimizer.masks.items():
    kernel = kernels[path]
    assert not np.any(kernel.numpy()[~mask.numpy()])
  plain.fit(X, Y, 16, 2, verbose=0)
  active = np.count_nonzero(before[0])
  assert np.count_nonzero(plain.get_weights()[0]) > active  # Dense again.


def test_loss_and_metrics_are_kept_and_not_shared():
  model = trained(
    sequential(),
    rigl_around("sgd", 0.5),
    loss_weights=2.0,
    metrics=["mae", keras.metrics.MeanSquaredError(name="error")],
  )
  plain = rk.strip(model)
  found = plain.evaluate(X, Y, verbose=0, return_dict=True)
  assert found == pytest.approx(
    model.evaluate(X, Y, verbose=0, return_dict=True)
  )
  assert set(found) == {"loss", "mae", "error"}
  theirs = {id(metric) for metric in model._compile_metrics.metrics}
  ours = {id(metric) for metric in plain._compile_metrics.metrics}
  assert not theirs & ours


def test_a_loss_that_keras_cannot_save_is_kept():
  def loss(y, predicted):
    return keras.ops.mean(keras.ops.square(y - predicted), -1)

  model = sequential()
  model.compile(rigl_around("sgd", 0.5), loss)
  model.fit(X, Y, verbose=0)
  assert rk.strip(model).evaluate(X, Y, verbose=0) == pytest.approx(
    model.evaluate(X, Y, verbose=0)
  )


@pytest.mark.parametrize("in_place", [False, True])
def test_the_loss_scale_is_kept(in_place):
  inner = keras.optimizers.SGD(0.01, 0.9)
  scaled = keras.optimizers.LossScaleOptimizer(
    rigl_around(inner), initial_scale=8.0, dynamic_growth_steps=5
  )
  model = trained(sequential(), scaled)
  scale, counter = float(scaled.dynamic_scale), int(scaled.step_counter)
  assert scale > 8.0
  slots = values(inner.variables)
  plain = rk.strip(model, in_place)
  assert isinstance(plain.optimizer, keras.optimizers.LossScaleOptimizer)
  assert type(plain.optimizer.inner_optimizer) is keras.optimizers.SGD
  assert float(plain.optimizer.dynamic_scale) == scale
  assert int(plain.optimizer.step_counter) == counter
  assert_equal(values(plain.optimizer.inner_optimizer.variables), slots)
  assert plain.optimizer.dynamic_growth_steps == 5
  plain.fit(X, Y, 16, 1, verbose=0)


def test_under_mixed_float16():
  policy = keras.config.dtype_policy()
  keras.config.set_dtype_policy("mixed_float16")
  try:
    model = trained(sequential(), rigl_around("sgd"))
    plain = rk.strip(model)
    unscaled = sequential()
    unscaled.compile(rigl_around("sgd"), "mse", auto_scale_loss=False)
    assert type(rk.strip(unscaled).optimizer) is keras.optimizers.SGD
  finally:
    keras.config.set_dtype_policy(policy)
  assert type(plain.optimizer.inner_optimizer) is keras.optimizers.SGD
  assert_equal(values(plain.get_weights()), values(model.get_weights()))


def test_before_the_first_step_it_is_the_model_as_it_is():
  model = sequential()
  model.compile(rigl_around("adam"), "mse")
  plain = rk.strip(model)
  assert not plain.optimizer.built
  assert_equal(values(plain.get_weights()), values(model.get_weights()))


def test_frozen_layers_stay_frozen_and_their_slots_are_right():
  model = sequential()
  model.layers[0].trainable = False
  trained(model, rigl_around("adam"), 1)
  plain = rk.strip(model)
  assert len(plain.trainable_variables) == len(model.trainable_variables)
  plain.fit(X, Y, verbose=0)
  assert_equal(
    values(plain.layers[0].get_weights()), values(model.layers[0].get_weights())
  )


def test_under_a_strategy():
  strategy = tf.distribute.MirroredStrategy(["cpu:0"])
  with strategy.scope():
    model = sequential()
    trained(model, rigl_around("adam"), 1)
  plain = rk.strip(model)
  assert_equal(values(plain.weights), values(model.weights))
  assert_equal(
    values(plain.optimizer.variables),
    values(model.optimizer.inner_optimizer.variables),
  )
  plain.fit(X, Y, 16, 1, verbose=0)


def test_models_without_a_sparse_optimizer_are_refused():
  model = sequential()
  with pytest.raises(ValueError, match="`model` must be compiled with a spars"):
    rk.strip(model)
  model.compile("adam", "mse")
  with pytest.raises(ValueError, match="got one with the optimizer Adam"):
    rk.strip(model)


def test_a_model_that_cannot_be_copied_says_what_to_do():
  model = trained(
    NotCopied(lambda: keras.layers.Dense(4)), rigl_around("sgd", 0.5), 1
  )
  with pytest.raises(ValueError, match="unless `in_place` is True"):
    rk.strip(model)
  assert rk.strip(model, in_place=True) is model
  assert type(model.optimizer) is keras.optimizers.SGD


def test_its_files_need_no_rigl(tmp_path):
  model = trained(sequential(), rigl_around("adam"))
  plain = rk.strip(model)
  plain.save(tmp_path / "plain.keras")
  plain.export(tmp_path / "saved_model", verbose=False)
  np.savez(tmp_path / "data.npz", x=X, y=plain.predict(X, verbose=0))
  code = """
import sys, keras, numpy as np, tensorflow as tf
data = np.load("data.npz")
model = keras.models.load_model("plain.keras")
np.testing.assert_allclose(model.predict(data["x"]), data["y"], atol=1e-6)
served = tf.saved_model.load("saved_model")
logits = served.serve(data["x"])
np.testing.assert_allclose(logits, data["y"], atol=1e-6)
assert int(model.optimizer.iterations) > 0
model.fit(data["x"], data["y"])
assert not any(name.split(".")[0] == "rigl" for name in sys.modules)
"""
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
