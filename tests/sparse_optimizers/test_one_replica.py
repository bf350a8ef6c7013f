# SPDX-License-Identifier: Apache-2.0
"""Strategies with one replica: README's loop, inside `tf.function` and out."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, METHODS, Run

STRATEGIES = {
  "mirrored": lambda: tf.distribute.MirroredStrategy(["CPU:0"]),
  "one device": lambda: tf.distribute.OneDeviceStrategy("CPU:0"),
  "default": tf.distribute.get_strategy,
}
N_ITERATIONS = FREQUENCY + 3
CASES = [
  *(("mirrored", name) for name in METHODS),
  ("one device", "rigl"),
  ("one device", "set"),
  ("default", "rigl"),
]


def _run(strategy, name, **options):
  with strategy.scope():
    run = Run(name, aggregation=tf.VariableAggregation.NONE, **options)
    run.optimizer.create_slots(run.model.all_variables)
  return run


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_loop_in_a_function_is_the_one_without_a_strategy(kind, name):
  strategy = STRATEGIES[kind]()
  run = _run(strategy, name)

  @tf.function(autograph=False)
  def iterate(i):
    strategy.run(run.iterate, (i,))

  for i in range(N_ITERATIONS):
    iterate(tf.constant(i))
  expected = Run(name).train(N_ITERATIONS)
  sparse_methods.assert_close(expected.state(), run.state())


@pytest.mark.parametrize("how", ["eager", "function in run", "loop"])
@pytest.mark.parametrize("name", ["rigl", "set", "prune"])
def test_other_ways_to_run_a_replica(name, how):
  strategy = STRATEGIES["mirrored"]()
  run = _run(strategy, name)
  if how == "loop":

    @tf.function
    def loop():
      for i in tf.range(N_ITERATIONS):
        strategy.run(run.iterate, (i,))

    loop()
  else:
    step = run.iterate
    if how == "function in run":
      step = tf.function(step, autograph=False)
    for i in range(N_ITERATIONS):
      strategy.run(step, (tf.constant(i),))
  expected = Run(name).train(N_ITERATIONS)
  sparse_methods.assert_close(expected.state(), run.state())


def test_wrapped_optimizers_and_a_choice_of_the_user_work_too():
  strategy = STRATEGIES["one device"]()
  with strategy.scope():
    kernel = tf.Variable(tf.ones([8, 8]), name="layer/weights")
    inner = tf.compat.v1.mixed_precision.MixedPrecisionLossScaleOptimizer(
      tf.compat.v1.train.MomentumOptimizer(0.1, 0.9), 4.0
    )
    arguments = {**METHODS["rigl"].arguments, "mask_engine": "numpy"}
    optimizer = METHODS["rigl"].make(inner, **arguments)
    optimizer.sparsify([kernel], "random", 0.75)

  @tf.function(autograph=False)
  def iterate(i, gradient):
    def step():
      optimizer.apply_gradients([(gradient, kernel)])
      return tf.constant(True)

    def replica():
      return tf.cond(i % 2 == 0, step, lambda: tf.constant(False))

    return strategy.run(replica)

  rng = np.random.default_rng(0)
  for i in range(12):
    gradient = tf.constant(rng.normal(size=(8, 8)), tf.float32)
    iterate(tf.constant(i), gradient)
    mask = optimizer.layers[0].mask.numpy()
    assert not kernel.numpy()[~mask].any() and np.count_nonzero(mask) == 16
  assert optimizer.global_step.numpy() == 5  # One of six was an update.
  assert "global_step" in optimizer.state()


def test_steps_outside_of_a_replica_say_how_to_call_them():
  strategy = STRATEGIES["mirrored"]()
  run = _run(strategy, "scratch")
  pairs = run.gradients(0)
  with strategy.scope(), pytest.raises(RuntimeError, match=r"strategy\.run"):
    run.optimizer.apply_gradients(pairs, run.step)


def test_functions_and_choices_inside_a_replica_say_how_to_call_them():
  strategy = STRATEGIES["mirrored"]()
  run = _run(strategy, "set")
  inside = tf.function(run.iterate, autograph=False)

  def choose(i):
    def step():
      run.optimizer.apply_masked_gradients(run.gradients(i), run.step)
      return True

    tf.cond(i > 0, step, lambda: False)

  for replica in (lambda i: inside(i), choose):
    with pytest.raises(RuntimeError, match="strategy.run inside of the"):
      tf.function(lambda i, f=replica: strategy.run(f, (i,)), autograph=False)(
        tf.constant(1)
      )


def test_masks_join_the_strategy_of_their_kernels():
  strategy = STRATEGIES["mirrored"]()
  with strategy.scope():
    run = Run("baseline")
  optimizer = sparse_methods.make("rigl")
  optimizer.sparsify(run.model.kernels, "random", 0.5)  # Outside of the scope.
  mask = optimizer.layers[0].mask
  assert type(mask) is type(run.model.kernels[0])
  with pytest.raises(RuntimeError, match=r"strategy\.scope"):
    strategy.run(
      lambda: sparse_methods.make("rigl").sparsify(run.model.kernels)
    )
