# SPDX-License-Identifier: Apache-2.0
"""`grow_batches` of the Keras optimizers that grow by gradients."""

import keras
import keras_models as suite
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as rk

WEIGHTS = np.asarray([[1.0, 2.0, 0.0, 0.0, 0.0, 0.0]], np.float32)
# Of the steps 0 to 2, and of the update at step 3.
GRADIENTS = np.asarray(
  [
    [[0, 0, 90, 0, 0, 0]],
    [[0, 0, 0, 0, 0, 3]],
    [[0, 0, 0, -5, 0, 0]],
    [[0, 0, 0, -2, 6, 5]],
  ],
  np.float32,
)
# The connections that grow, and the mean of their gradients: of the last batch;
# of the last two; of the last three.
EXPECTED = {1: (4, 6.0), 2: (3, -3.5), 3: (5, 8 / 3)}


def make(grow_batches, inner=None):
  optimizer = rk.RigL(
    inner or keras.optimizers.SGD(0.0),
    2 / 3,
    begin_step=3,
    frequency=3,
    drop_fraction=0.5,
    anneal="constant",
    grow_init="grad_scale",
    noise_std=0.0,
    distribution="uniform",
    mask_engine="numpy",
    grow_batches=grow_batches,
  )
  kernel = keras.Variable(WEIGHTS, name="kernel")
  optimizer.build([kernel])
  optimizer.sparse_kernels[0].stored_mask.assign(WEIGHTS != 0)
  kernel.assign(WEIGHTS)
  return optimizer, kernel


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("micro_steps", [None, 2])
@pytest.mark.parametrize("grow_batches", EXPECTED)
def test_the_last_batches_choose_what_grows(
  grow_batches, micro_steps, in_graph
):
  inner = keras.optimizers.SGD(0.0, gradient_accumulation_steps=micro_steps)
  optimizer, kernel = make(grow_batches, inner)

  def apply(gradient):
    optimizer.apply([gradient], [kernel])

  if in_graph:
    apply = tf.function(apply)
  for gradient in GRADIENTS:
    if micro_steps:  # Two calls with this mean.
      apply(tf.constant(gradient + 1.5))
      apply(tf.constant(gradient - 1.5))
    else:
      apply(tf.constant(gradient))
  place, value = EXPECTED[grow_batches]
  expected = np.asarray([[0.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
  expected[0, place] = value
  np.testing.assert_allclose(kernel.numpy(), expected, rtol=1e-6)
  if grow_batches > 1:
    assert int(optimizer._grow_count) == 0
    (total,) = optimizer._grow_sums.values()
    assert not np.any(total.numpy())


@pytest.mark.parametrize("method", ["rigl", "granet"])
def test_a_saved_run_goes_on(tmp_path, method):
  def model():
    arguments = {"frequency": 4, "grow_batches": 3, "end_step": 8}
    optimizer = suite.sparse_optimizer(
      method, "sgd", grow_init="grad_scale", begin_step=0, **arguments
    )
    made = suite.compiled(suite.fresh(), optimizer, run_eagerly=True)
    optimizer.build(made.trainable_variables)
    return made

  whole, half = model(), model()
  for _ in range(12):
    whole.train_on_batch(*suite.data())
  for _ in range(4):  # The update of step 0 and 3 steps; the next is at 4.
    half.train_on_batch(*suite.data())
  assert int(half.optimizer._grow_count) == 1
  half.save(tmp_path / "m.keras")
  again = keras.models.load_model(tmp_path / "m.keras")
  assert again.optimizer.get_config()["grow_batches"] == 3
  again.run_eagerly = True
  for _ in range(8):
    again.train_on_batch(*suite.data())
  suite.check_promises(again)
  for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [0, 4, 1.5, True])
def test_bad_numbers_are_named(value):
  with pytest.raises(ValueError, match="`grow_batches` must be"):
    make(value)
