# SPDX-License-Identifier: Apache-2.0
"""Slots that start anew are those of an optimizer that has made no step."""

import keras
import numpy as np
import pytest

import rigl.keras as rk

X, Y = np.ones([4, 6]), np.ones([4, 2])


def compiled(inner):
  inputs = keras.Input([6])
  hidden = keras.layers.Dense(5, "relu", name="first")(inputs)
  model = keras.Model(inputs, keras.layers.Dense(2, name="last")(hidden))
  model.compile(rk.RigL(inner, 0.5, frequency=3, grow_batches=2), "mse")
  return model


def trained(inner):
  model = compiled(inner)
  model.fit(X, Y, epochs=11, verbose=0)
  return model


@pytest.mark.parametrize(
  "make",
  [
    lambda: keras.optimizers.RMSprop(),
    lambda: keras.optimizers.Adagrad(),  # Slots start at 0.1.
    lambda: keras.optimizers.Adafactor(epsilon_1=1e-10),  # Of other shapes.
    lambda: keras.optimizers.Adam(gradient_accumulation_steps=2),
  ],
)
def test_slots_start_anew(make):
  model = trained(make())
  optimizer, inner = model.optimizer, model.optimizer.inner_optimizer
  assert optimizer.changed_in_last_update()
  before = [
    model.get_weights(),
    [np.array(m) for m in optimizer.masks.values()],
  ]
  steps = int(optimizer.iterations)
  optimizer.start_slots_anew()
  fresh = make()
  fresh.build(model.trainable_variables)
  assert int(optimizer.iterations) == steps > 0
  inner._iterations.assign(0)
  for found, expected in zip(inner.variables, fresh.variables, strict=True):
    np.testing.assert_array_equal(found, expected, err_msg=found.path)
  assert optimizer.changed_in_last_update() is None
  assert not any(np.any(total) for total in optimizer.grow_gradients.values())
  assert int(optimizer.counters["grow_gradient_batches"]) == 0
  after = [model.get_weights(), [np.array(m) for m in optimizer.masks.values()]]
  for old, new in zip(before, after, strict=True):
    for one, two in zip(old, new, strict=True):
      np.testing.assert_array_equal(one, two)


@pytest.fixture
def saved(tmp_path):
  """A model, and the directory of its checkpoint, which has no slots."""
  model = trained("rmsprop")
  rk.save_checkpoint(model, tmp_path)
  return model, tmp_path


def test_averages_that_a_checkpoint_lacks_start_as_the_weights(saved):
  model, directory = saved
  other = compiled(keras.optimizers.SGD(use_ema=True))
  rk.load_checkpoint(other, directory)
  other.optimizer.finalize_variable_values(other.trainable_variables)
  for one, two in zip(other.weights, model.weights, strict=True):
    np.testing.assert_array_equal(one, two)


def test_slots_that_a_checkpoint_lacks_start_anew(saved):
  _, directory = saved
  other = trained(keras.optimizers.Adam())
  assert np.any(other.optimizer.inner_optimizer._momentums[0])
  rk.load_checkpoint(other, directory)
  assert not np.any(other.optimizer.inner_optimizer._momentums[0])


@pytest.mark.skipif(
  not hasattr(keras.optimizers, "MultiOptimizer"), reason="an older Keras"
)
def test_all_parts_of_an_optimizer_get_the_steps_of_a_checkpoint(saved):
  model, directory = saved
  parts = [keras.optimizers.Adam(), keras.optimizers.SGD()]
  names = keras.optimizers.OptimizerMap(parts[0], {"first/.*": parts[1]})
  other = compiled(keras.optimizers.MultiOptimizer(names))
  rk.load_checkpoint(other, directory)
  steps = int(model.optimizer.iterations)
  assert [int(part.iterations) for part in parts] == [steps, steps] != [0, 0]
  assert int(other.optimizer.iterations) == steps
