# SPDX-License-Identifier: Apache-2.0
"""MNIST on several devices and workers: one run, whatever computes it."""

import importlib.util

import numpy as np
import pytest
import runs_of_replicas

from rigl.training import checkpoints

# A process each, with XLA's compilations.
pytestmark = pytest.mark.slow

STEPS, FREQUENCY = 200, 50
FLAGS = (
  "--training_method=rigl",
  "--end_sparsity=0.9",
  "--batch_size=300",
  "--num_epochs=1",
  "--seed=3",
  # At a higher rate a ReLU that the last bit turns on or off decides the rest.
  "--learning_rate=0.05",
  f"--maskupdate_frequency={FREQUENCY}",
  # The last bits differ, and with them the ties that noise breaks.
  "--gin_bindings=SparseRigLOptimizer.noise_std = 0.0",
)
JAX = ("--runner=jax", "--compilation_cache=none")
CASES = {
  "one": ("--strategy=default",),
  "two": ("--strategy=mirrored", "--virtual_devices=2"),
  "four": ("--strategy=mirrored", "--virtual_devices=4"),
  "workers": ("--strategy=multi_worker",),
  "jax-1": (*JAX, "--strategy=default"),
  "jax-2": (*JAX, "--virtual_devices=2"),
  "jax-4": (*JAX, "--virtual_devices=4"),
  "jax-workers": (*JAX, "--strategy=multi_worker", "--virtual_devices=2"),
}
REPLICAS = {
  "one": 1,
  "two": 2,
  "four": 4,
  "workers": 2,
  "jax-1": 1,
  "jax-2": 2,
  "jax-4": 4,
  "jax-workers": 4,
}
NEEDS_JAX = pytest.mark.skipif(
  not importlib.util.find_spec("jax"), reason="JAX is not installed"
)
SEVERAL = [
  pytest.param(
    case,
    # Two devices are to four as four are to one. One device of JAX is compared
    # with the loop in tests/runners/jax.
    marks=[pytest.mark.long] * (case in ("two", "jax-1", "jax-2"))
    + [NEEDS_JAX] * ("jax" in case),
  )
  for case in CASES
  if case != "one"
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
  """Runs a case, once."""
  done = {}

  def result(case):
    if case not in done:
      place = tmp_path_factory.mktemp(case)
      output, directory = place / "states", place / "run"
      flags = (*FLAGS, *CASES[case], f"--save_path={directory}")
      command = runs_of_replicas.command("mnist", output, flags)
      if "workers" in case:
        command = runs_of_replicas.workers_command(2, 0, command)
      runs_of_replicas.run(command)
      done[case] = runs_of_replicas.states(output, directory)
    return done[case]

  return result


@pytest.mark.parametrize("case", SEVERAL)
def test_every_replica_ends_with_the_same_bits(results, case):
  found = results(case)
  assert len(found.replicas) == REPLICAS[case]
  runs_of_replicas.assert_same_replicas(found)


@pytest.mark.parametrize("case", SEVERAL)
def test_masks_are_those_of_one_device_at_every_update(results, case):
  found, wanted = results(case).masks, results("one").masks
  assert len(wanted) == STEPS // FREQUENCY
  assert found.keys() == wanted.keys()
  for iteration, masks in wanted.items():
    for layer, mask in masks.items():
      np.testing.assert_array_equal(found[iteration][layer], mask)


@pytest.mark.parametrize("case", SEVERAL)
def test_weights_are_those_of_one_device(results, case):
  found, wanted = results(case).replicas[0], results("one").replicas[0]
  assert found.keys() == wanted.keys()
  for name, value in wanted.items():
    np.testing.assert_allclose(found[name], value, atol=2e-5, err_msg=name)


def test_masks_change_meanwhile(results):
  first, *_, last = results("one").masks.values()
  assert any(np.any(first[layer] != last[layer]) for layer in first)


@pytest.mark.parametrize("case", SEVERAL)
def test_the_checkpoint_holds_what_the_replicas_have(results, case):
  found = results(case)
  tensors = checkpoints.load_latest(found.directory)
  for name, value in found.replicas[0].items():
    np.testing.assert_array_equal(tensors[name], value, err_msg=name)
