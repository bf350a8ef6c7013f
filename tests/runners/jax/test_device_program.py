# SPDX-License-Identifier: Apache-2.0
"""Programs on a device of JAX, and the variables they use there."""

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("jax")

from rigl.distribution.jax_replicas import create_jax_replicas  # noqa: E402
from rigl.runners.jax.device_program import DeviceProgram  # noqa: E402
from rigl.runners.jax.device_state import DeviceState  # noqa: E402


@pytest.fixture(scope="module")
def replicas():
  return create_jax_replicas("default")


def test_variables_stay_on_the_device_until_they_are_stored(replicas):
  weights = tf.Variable([1.0, 2.0])
  mask = tf.Variable([True, False])
  untouched = tf.Variable(3.0)
  state = DeviceState(replicas, [weights, mask, untouched])

  def step(batch, factor):
    added = tf.where(mask, batch["x"], 0.0) * tf.cast(factor, tf.float32)
    weights.assign_add(added)
    mask.assign(tf.logical_not(mask))
    return {"sum": tf.reduce_sum(weights.read_value())}

  program = DeviceProgram(step, state)
  batch = {"x": np.float32([1, 10])}
  sums = [float(program(batch, np.int64(2))["sum"]) for _ in range(3)]
  assert sums == [5.0, 25.0, 27.0]
  np.testing.assert_array_equal(weights, [1, 2])
  state.store([mask])
  np.testing.assert_array_equal(mask, [False, True])
  np.testing.assert_array_equal(weights, [1, 2])
  state.store()
  np.testing.assert_array_equal(weights, [5, 22])
  assert state.values(weights)[0].tolist() == [5, 22]

  # What a checkpoint restores counts, once the copies are forgotten.
  weights.assign([0.0, 0.0])
  state.forget()
  assert float(program(batch, np.int64(1))["sum"]) == 10.0


def test_results_are_arguments_of_the_next_call(replicas):
  program = DeviceProgram(
    lambda sums, x: {name: s + x for name, s in sums.items()},
    DeviceState(replicas, []),
  )
  sums = {"a": np.float64(0), "b": np.float64(1)}
  for x in range(5):
    sums = program(sums, np.float64(x))
  assert {name: float(s) for name, s in sums.items()} == {"a": 10, "b": 11}


def test_evaluations_change_no_variable(replicas):
  average = tf.Variable([1.0, 1.0])
  state = DeviceState(replicas, [average])

  def evaluate(x):
    average.assign_add(x)
    return {"moved": tf.reduce_sum(average.read_value())}

  program = DeviceProgram(evaluate, state, writes=False)
  moved = [float(program(np.float32([1, 2]))["moved"]) for _ in range(3)]
  assert moved == [5.0, 5.0, 5.0]
  state.store()
  np.testing.assert_array_equal(average, [1, 1])


def test_constants_are_copied_once_for_all_programs(replicas):
  images = tf.reshape(tf.range(12), [4, 3])
  state = DeviceState(replicas, [])
  programs = [
    DeviceProgram(lambda i: {"row": tf.gather(images, i)}, state),
    DeviceProgram(lambda i: {"row": 2 * tf.gather(images, i)}, state),
  ]
  found = [np.asarray(p(np.int32(2))["row"]).tolist() for p in programs]
  assert found == [[6, 7, 8], [12, 14, 16]]
  assert state.array(images) is state.array(images)


def test_unknown_variable_is_refused(replicas):
  known, unknown = tf.Variable(1.0), tf.Variable(2.0)
  program = DeviceProgram(
    lambda x: {"y": x * known * unknown}, DeviceState(replicas, [known])
  )
  with pytest.raises(ValueError, match="variable that the run does not know"):
    program(np.float32(1))


def test_what_xla_cannot_compile_is_named(replicas):
  program = DeviceProgram(
    lambda x: {"y": tf.strings.as_string(x)}, DeviceState(replicas, [])
  )
  with pytest.raises(ValueError, match="XLA cannot compile it"):
    program(np.float32(1))


def test_missing_tpu_is_said_in_one_line():
  with pytest.raises(ValueError) as found:
    create_jax_replicas("tpu")
  assert "tpu" in str(found.value) and "\n" not in str(found.value)
