# SPDX-License-Identifier: Apache-2.0
"""`grow_batches`: growth by the mean gradient of several batches."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, Run

from rigl import sparse_optimizers
from rigl.schedules import UpdateSchedule

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


def make(grow_batches, **options):
  arguments = dict(
    begin_step=3,
    end_step=-1,
    frequency=3,
    drop_fraction=0.5,
    grow_init="grad_scale",
    noise_std=0.0,
    mask_engine="numpy",
    grow_batches=grow_batches,
  )
  return sparse_optimizers.SparseRigLOptimizer(
    tf.compat.v1.train.GradientDescentOptimizer(0.0), **arguments | options
  )


def check(grow_batches, weights):
  place, value = EXPECTED[grow_batches]
  expected = np.asarray([[0.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
  expected[0, place] = value
  np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize("how", ["eager", "function", "xla", "strategy"])
@pytest.mark.parametrize("grow_batches", EXPECTED)
def test_the_last_batches_choose_what_grows(grow_batches, how):
  strategy = tf.distribute.get_strategy()
  if how == "strategy":
    strategy = tf.distribute.OneDeviceStrategy("cpu:0")
  with strategy.scope():
    kernel = tf.Variable(WEIGHTS, name="layer1/weights")
    optimizer = make(
      grow_batches, mask_engine="xla" if how == "xla" else "numpy"
    )
    optimizer.create_masks([kernel], {"layer1": WEIGHTS != 0})

  def step(gradient):
    strategy.run(
      lambda g: optimizer.apply_masked_gradients([(g, kernel)]), (gradient,)
    )

  def update(gradient):
    strategy.run(lambda g: optimizer.update_masks([(g, kernel)]), (gradient,))

  if how != "eager":
    step, update = (
      tf.function(each, jit_compile=how == "xla", autograph=False)
      for each in (step, update)
    )
  for gradient in GRADIENTS[:3]:
    step(tf.constant(gradient))
  np.testing.assert_array_equal(kernel, WEIGHTS)
  state = optimizer.state()
  if grow_batches > 1:
    total = state["layer1/weights/grow_gradient"]
    collected = GRADIENTS[4 - grow_batches : 3]
    np.testing.assert_array_equal(total, collected.sum(0))
    assert int(state["grow_gradient_batches"]) == grow_batches - 1
  else:
    assert not [name for name in state if "grow" in name]
  update(tf.constant(GRADIENTS[3]))
  check(grow_batches, kernel)
  if grow_batches > 1:
    assert not np.any(total)
    assert int(state["grow_gradient_batches"]) == 0


@pytest.mark.parametrize("grow_batches", EXPECTED)
def test_a_session_does_the_same(grow_batches):
  with tf.Graph().as_default():
    kernel = tf.Variable(WEIGHTS, name="layer1/weights")
    optimizer = make(grow_batches)
    optimizer.create_masks([kernel], {"layer1": WEIGHTS != 0})
    given = tf.compat.v1.placeholder(tf.float32, WEIGHTS.shape)
    iterate = optimizer.apply_gradients([(given, kernel)])
    with tf.compat.v1.Session() as session:
      session.run(tf.compat.v1.global_variables_initializer())
      for gradient in GRADIENTS:
        session.run(iterate, {given: gradient})
      check(grow_batches, session.run(kernel))


@pytest.mark.parametrize("begin", [0, 3, 7])
@pytest.mark.parametrize("end", [-1, 9, 13])
@pytest.mark.parametrize("distance", [1, 2, 4])
def test_which_steps_come_shortly_before_an_update(begin, end, distance):
  schedule = UpdateSchedule(begin, end, 4, 0.3)
  due = [s for s in range(begin, 40, 4) if end < 0 or s <= end]
  last = schedule.initial_last_update_step
  for step in range(30):
    if step in due:
      last = step
    near = any(step < each <= step + distance for each in due)
    for kind in (int, np.int64, lambda n: tf.constant(n, tf.int64)):
      found = schedule.precedes_update(kind(step), kind(last), distance)
      assert bool(found) == near, (step, last)


def test_a_run_that_stops_between_two_batches_goes_on(tmp_path):
  def checkpoint(run):
    return tf.train.Checkpoint(
      optimizer=run.optimizer, model=run.model.all_variables, step=run.step
    )

  options = {"grow_batches": 4, "grow_init": "grad_scale"}
  whole = Run("rigl", **options).train(14)
  first = Run("rigl", **options).train(4)  # To step 3; the update is at 5.
  state = first.optimizer.state()
  assert int(state["grow_gradient_batches"]) == 1
  path = checkpoint(first).write(str(tmp_path / "c"))
  again = Run("rigl", **options)
  checkpoint(again).restore(path)
  again.train(10, start=4)
  sparse_methods.assert_same_bits(again.state(), whole.state())
  one = Run("rigl", grow_init="grad_scale").train(14)
  assert np.any(whole.masks()[0] != one.masks()[0])


@pytest.mark.parametrize("value", [0, -1, FREQUENCY + 1, 1.5, True, None])
def test_bad_numbers_are_named(value):
  with pytest.raises(ValueError, match="`grow_batches` must be"):
    Run("rigl", grow_batches=value)


@pytest.mark.parametrize("kind", ["connections", "blocks"])
def test_layers_that_store_what_is_active_are_refused(kind):
  sparse = pytest.importorskip("rigl.sparse")
  layer = (
    sparse.SparseDense(24, 16, sparsity=0.5, name="layer1")
    if kind == "connections"
    else sparse.BlockSparseDense(32, 32, sparsity=0.5, block=8, name="layer1")
  )
  with pytest.raises(ValueError, match=f"`grow_batches` must be 1.*{kind}"):
    make(2, grow_init="zeros").create_masks([layer])
