# SPDX-License-Identifier: Apache-2.0
"""Several replicas: the same bits on all, and the numbers of one device.

Virtual devices must exist before TensorFlow starts, so that this file runs
itself in a process of its own, once, and checks what that saves.
"""

import subprocess
import sys

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
import warm_python
from sparse_methods import FREQUENCY

# Half a minute: the devices need a process of their own.
pytestmark = pytest.mark.slow

N_DEVICES = 4
N_ITERATIONS = FREQUENCY + 3
# Case: method, number of replicas, how to run, aggregation of the model.
FIRST = tf.VariableAggregation.ONLY_FIRST_REPLICA
CASES = {
  **{name: (name, 2, "halves", FIRST) for name in sparse_methods.METHODS},
  "rigl-4": ("rigl", 4, "halves", FIRST),
  "chase-4": ("chase", 4, "halves", FIRST),
  "rigl-default": ("rigl", 2, "halves", tf.VariableAggregation.NONE),
  **{f"{name}-whole": (name, 2, "whole", FIRST) for name in ("dnw", "scratch")},
  "rigl-eager": ("rigl", 2, "eager", FIRST),
  "drifting": ("rigl", 2, "halves", tf.VariableAggregation.NONE),
}
# Wrapped optimizers that are not Momentum, by case.
INNER = {"drifting": "drifting"}


class Drifting(tf.compat.v1.train.GradientDescentOptimizer):
  """Moves every weight, so that kernels are masked after its steps."""

  def _resource_apply_dense(self, grad, handle):
    return handle.assign_sub(0.1 * grad + 0.01)


sparse_methods.INNER["drifting"] = lambda: Drifting(0.1)
REFUSED = ("set", "static", "momentum", "rigl", "snip", "prune")


def _make(case, **options):
  """Without noise: the last bits of weights differ from those of one device."""
  name = CASES[case][0]
  if INNER.get(case) and name == "rigl":
    options["initial_acc_scale"] = 0.0
  if name in (*sparse_methods.DROP_GROW, *sparse_methods.BUDGETED):
    options["noise_std"] = 0.0
  return sparse_methods.Run(name, INNER.get(case, "momentum"), **options)


# --- In the process with several devices --------------------------------------


def _on_replicas(strategy, run, half):
  def on_replica(i):
    half(run.gradients(i), run.step)

  return lambda i: strategy.run(on_replica, (i,))


def _train(strategy, run, how):
  optimizer = run.optimizer
  if how == "eager":
    iterate = _on_replicas(strategy, run, optimizer.apply_gradients)
    for i in range(N_ITERATIONS):
      iterate(tf.constant(i))
    return
  half = optimizer.apply_masked_gradients
  if how == "whole":
    half = optimizer.apply_gradients
  one_step = _on_replicas(strategy, run, half)
  update = _on_replicas(strategy, run, optimizer.update_masks)

  @tf.function(autograph=False)
  def steps(i, n):
    def body(j):
      one_step(j)
      return [j + 1]

    tf.while_loop(lambda j: j < i + n, body, [i])

  if how == "whole":
    for i in range(N_ITERATIONS):
      steps(tf.constant(i), tf.constant(1))
    return
  update = tf.function(update, autograph=False)
  sparse_methods.train_by_halves(
    run,
    lambda i, n: steps(tf.constant(i), tf.constant(n)),
    lambda i: update(tf.constant(i)),
    N_ITERATIONS,
  )


def _strategy(n_replicas, collectives=True):
  """Collectives are faster, but need graphs and one group size a process."""
  devices = [f"CPU:{i}" for i in range(n_replicas)]
  reduce = None if collectives else tf.distribute.ReductionToOneDevice()
  return tf.distribute.MirroredStrategy(devices, reduce)


def _replica_states(case):
  name, n_replicas, how, aggregation = CASES[case]
  collectives = n_replicas == 2 and how != "eager"
  strategy = _strategy(n_replicas, collectives)
  with strategy.scope():
    run = _make(case, aggregation=aggregation)
    run.optimizer.create_slots(run.model.all_variables)
  _train(strategy, run, how)
  variables = {v.name: v for v in (*run.model.all_variables, run.step)}
  return {
    f"{case}|{replica}|{name}": local.numpy()
    for name, variable in {**variables, **run.optimizer.state()}.items()
    for replica, local in enumerate(
      strategy.experimental_local_results(variable)
    )
  }


def _refusal(name):
  strategy = _strategy(2)
  with strategy.scope():
    run = _make(name)
    run.optimizer.create_slots(run.model.all_variables)
  iterate = _on_replicas(strategy, run, run.optimizer.apply_gradients)
  try:
    tf.function(iterate, autograph=False)(tf.constant(0))
  except RuntimeError as error:
    return str(error)
  return "none"


def _main(path):
  cpu = tf.config.list_physical_devices("CPU")[0]
  tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * N_DEVICES
  )
  results = {f"refused|{name}": np.array(_refusal(name)) for name in REFUSED}
  for case in CASES:
    results.update(_replica_states(case))
  np.savez(path, **results)


# --- In the process of the tests ----------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory):
  path = tmp_path_factory.mktemp("replicas") / "results.npz"
  process = subprocess.run(
    warm_python.command(__file__, str(path)),
    env=sparse_methods.child_environment(),
    capture_output=True,
    text=True,
  )
  assert process.returncode == 0, process.stderr[-2000:]
  with np.load(path) as file:
    return {name: file[name] for name in file.files}


def _states(results, case):
  """The state of every replica, by name."""
  states = [{} for _ in range(CASES[case][1])]
  for key, value in results.items():
    kind, replica, *name = key.split("|")
    if kind == case:
      states[int(replica)]["|".join(name)] = value
  return states


@pytest.mark.parametrize("case", CASES)
def test_all_replicas_have_the_same_bits(results, case):
  first, *others = _states(results, case)
  for other in others:
    sparse_methods.assert_same_bits(first, other)


@pytest.mark.parametrize("case", CASES)
def test_replicas_get_where_one_device_gets_with_the_whole_batch(results, case):
  one_device = _make(case).train(N_ITERATIONS)
  sparse_methods.assert_close(one_device.state(), _states(results, case)[0])


def test_a_wrapped_optimizer_that_drifts_moves_nothing_off_the_masks(results):
  for state in _states(results, "drifting"):
    for layer in ("layer1", "layer2"):
      weights, mask = state[f"{layer}/weights:0"], state[f"{layer}/mask"]
      assert not weights[~mask].any() and np.count_nonzero(mask) == 48


@pytest.mark.parametrize("name", REFUSED)
def test_a_choice_inside_of_a_replica_is_refused_in_a_graph(results, name):
  assert "Choose on the host" in str(results[f"refused|{name}"])


if __name__ == "__main__":
  _main(sys.argv[1])
