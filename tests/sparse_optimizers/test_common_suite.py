# SPDX-License-Identifier: Apache-2.0
"""Promises that every method keeps; a method enters by a row of the table."""

import functools
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, METHODS, Run

N_ITERATIONS = 26
RANDOM = [name for name, method in METHODS.items() if method.random]
CONSERVED = [name for name in sparse_methods.MASKED if METHODS[name].conserved]

every_method = pytest.mark.parametrize("name", METHODS)
masked_method = pytest.mark.parametrize("name", sparse_methods.MASKED)


@functools.cache
def _whole_run(name):
  """What a run looks like before and after each iteration; its last state."""
  run, rows = Run(name), []
  for i in range(N_ITERATIONS + 1):
    rows.append((run.masks(), run.kernels()))
    if i < N_ITERATIONS:
      run.iterate(i)
  return rows, run.state()


def _history(name):
  return _whole_run(name)[0]


def _final_state(name):
  return _whole_run(name)[1]


# --- Sparsity -----------------------------------------------------------------


@masked_method
def test_weights_are_zero_where_the_mask_is_after_every_iteration(name):
  for masks, kernels in _history(name):
    for mask, kernel in zip(masks, kernels, strict=True):
      assert not np.any(kernel[~mask])
      assert np.all(np.isfinite(kernel))
  assert not any(mask.all() for mask in _history(name)[-1][0])


@pytest.mark.parametrize("name", CONSERVED)
def test_number_of_connections_is_conserved(name):
  for masks, _ in _history(name):
    assert [np.count_nonzero(mask) for mask in masks] == [48, 48]


@pytest.mark.parametrize("name", ["set", "momentum", "rigl", "top_kast"])
def test_dynamic_masks_move_connections(name):
  first, last = _history(name)[0][0], _history(name)[-1][0]
  for before, after in zip(first, last, strict=True):
    assert np.any(before & ~after) and np.any(~before & after)


@pytest.mark.parametrize(
  "inner", ["momentum", "nesterov", "adam", "adagrad", "rmsprop"]
)
@pytest.mark.parametrize(
  "name",
  [n for n in sparse_methods.MASKED if not METHODS[n].trains_inactive],
)
def test_slots_of_inactive_connections_stay_at_their_start(name, inner):
  run = Run(
    name, inner, **({"initial_acc_scale": 0.0} if name == "rigl" else {})
  )
  run.train(FREQUENCY + 1)
  starts = {"accumulator": 0.1}
  for slot, values in run.slots().items():
    if slot == "rms":
      continue  # It decays there; see the test of what new connections get.
    for value, mask in zip(values, run.masks(), strict=True):
      np.testing.assert_array_equal(
        value[~mask], np.float32(starts.get(slot, 0.0))
      )
      assert np.any(value[mask] != starts.get(slot, 0.0))


@pytest.mark.parametrize("inner", ["adam", "adagrad", "rmsprop"])
def test_slots_of_new_connections_are_those_of_a_new_optimizer(inner):
  run = Run("set", inner, begin_step=6, drop_fraction=1.0).train(5)
  fresh = Run("set", inner).slots()
  before = run.masks()
  run.iterate(5)
  for slot, values in run.slots().items():
    for i, value in enumerate(values):
      new = run.masks()[i] & ~before[i]
      assert new.any()
      np.testing.assert_array_equal(value[new], fresh[slot][i][new])


def test_baseline_is_the_wrapped_optimizer():
  run, plain = Run("baseline").train(4), Run("baseline")
  inner = sparse_methods.INNER["momentum"]()
  for i in range(4):
    inner.apply_gradients(plain.gradients(i), plain.step)
  for a, b in zip(run.kernels(), plain.kernels(), strict=True):
    np.testing.assert_array_equal(a, b)


# --- Same bits ----------------------------------------------------------------


@every_method
def test_two_runs_with_one_seed_give_the_same_bits(name):
  again = Run(name).train(N_ITERATIONS).state()
  sparse_methods.assert_same_bits(_final_state(name), again)


@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_gives_others(name):
  one, other = (
    Run(name, given_masks=True, seed=seed).train(FREQUENCY + 2)
    for seed in (0, 1)
  )
  for a, b in zip(one.kernels(), other.kernels(), strict=True):
    assert np.any(a != b)


def _digests():
  """A hash of the state after an update, where there are random numbers."""
  result = []
  for name in (*RANDOM, "scratch"):
    state = Run(name).train(2).state()
    everything = b"".join(k.encode() + v.tobytes() for k, v in state.items())
    result.append(f"{name} {hashlib.sha256(everything).hexdigest()}")
  return result


@pytest.mark.slow
def test_same_bits_in_another_process():
  environment = sparse_methods.child_environment(PYTHONHASHSEED="12345")
  process = subprocess.run(
    [sys.executable, __file__],
    env=environment,
    check=True,
    capture_output=True,
    text=True,
  )
  assert process.stdout.split("\n")[:-1] == _digests()


@pytest.mark.parametrize(
  ("name", "inner"),
  [
    *((name, "momentum") for name in METHODS),
    ("rigl", "adam"),
    ("baseline", "adam"),
  ],
)
def test_checkpoint_round_trip_goes_on_with_the_same_bits(
  name, inner, tmp_path
):
  def checkpoint(run):
    return tf.train.Checkpoint(
      optimizer=run.optimizer, model=run.model, step=run.step
    )

  options = {"initial_acc_scale": 0.0} if name == "rigl" else {}
  run = Run(name, inner, **options).train(FREQUENCY + 3)
  path = checkpoint(run).write(str(tmp_path / "model"))
  run.train(FREQUENCY + 3, FREQUENCY + 3)
  fresh = Run(name, inner, model_seed=5, **options)
  status = checkpoint(fresh).read(path)
  status.assert_existing_objects_matched()
  fresh.train(FREQUENCY + 3, FREQUENCY + 3)
  status.assert_consumed()
  sparse_methods.assert_same_bits(run.state(), fresh.state())


# --- Ways to run --------------------------------------------------------------


# Whole iterations by XLA take seconds to compile. The update, which is all that
# these have of their own, is compiled by XLA in every case.
GRAPH_ONLY = ("set", "static", "momentum", "mest", "rigl_across")
COMPILED = [
  *((name, False) for name in METHODS),
  *((name, True) for name in METHODS if name not in GRAPH_ONLY),
]


@functools.cache
def _compiled(name, xla):
  """A run as one program that is called again and again."""
  run = Run(name, n_sparse=1, mask_engine="xla")
  run.optimizer.create_slots(run.model.all_variables)
  iterate = tf.function(run.iterate, jit_compile=xla, autograph=False)
  for i in range(FREQUENCY + 2):
    iterate(tf.constant(i))
  return run, iterate.experimental_get_tracing_count()


@pytest.mark.parametrize(("name", "xla"), COMPILED)
def test_eager_graph_and_xla_agree(name, xla):
  eager = Run(name, n_sparse=1).train(FREQUENCY + 2)
  compiled, _ = _compiled(name, xla)
  sparse_methods.assert_close(eager.state(), compiled.state())


@pytest.mark.parametrize(("name", "xla"), COMPILED)
def test_second_call_does_not_retrace(name, xla):
  assert _compiled(name, xla)[1] == 1


def _halves(run):
  """Makes steps `i` to `i + n`; updates with batch `i`."""

  def step(i):
    run.optimizer.apply_masked_gradients(run.gradients(i), run.step)
    return [i + 1]

  def steps(i, n):
    tf.while_loop(lambda j: j < i + n, step, [i])

  def update(i):
    run.optimizer.update_masks(run.gradients(i), run.step)

  return steps, update


def _compiled_halves(run):
  steps, update = (tf.function(f, autograph=False) for f in _halves(run))
  return (
    lambda i, n: steps(tf.constant(i), tf.constant(n)),
    lambda i: update(tf.constant(i)),
  )


@every_method
def test_halves_chosen_on_the_host_equal_apply_gradients(name):
  run = Run(name)
  sparse_methods.train_by_halves(run, *_halves(run), N_ITERATIONS)
  sparse_methods.assert_same_bits(_final_state(name), run.state())


@every_method
def test_halves_in_compiled_loops_equal_apply_gradients(name):
  n = 2 * FREQUENCY + 3
  run = Run(name)
  run.optimizer.create_slots(run.model.all_variables)
  sparse_methods.train_by_halves(run, *_compiled_halves(run), n)
  whole = Run(name).train(n)
  sparse_methods.assert_close(whole.state(), run.state())


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "inner"),
  [
    *((name, "momentum") for name in sparse_methods.DROP_GROW),
    ("set", "adam"),
    ("rigl", "adam"),
  ],
)
def test_layers_at_once_give_the_same_bits_as_one_by_one(name, inner):
  options = {"initial_acc_scale": 0.0} if name == "rigl" else {}
  runs = [
    Run(name, inner, mask_engine=engine, **options)
    for engine in ("xla", "batched")
  ]
  one_by_one, at_once = (run.train(2 * FREQUENCY + 2).state() for run in runs)
  sparse_methods.assert_same_bits(one_by_one, at_once)


@pytest.mark.parametrize("engine", ["xla", "batched"])
@pytest.mark.parametrize("name", ["snip", "dnw", "prune", "top_kast"])
def test_methods_with_a_target_use_every_engine(name, engine):
  """Their scores round alike everywhere, so all bits are the same."""
  compiled = Run(name, mask_engine=engine).train(FREQUENCY + 3)
  run = Run(name).train(FREQUENCY + 3)
  assert (run.optimizer.mask_engine.name, engine) == (
    "numpy",
    compiled.optimizer.mask_engine.name,
  )
  sparse_methods.assert_same_bits(run.state(), compiled.state())


@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_mark_updated_notes_what_an_update_notes_and_no_more(name):
  """So that a plan can be made without training."""
  run, marked = (Run(name).train(1) for _ in range(2))
  if name in ("scratch", "dnw"):
    marked.optimizer.mark_updated(marked.step)
    sparse_methods.assert_same_bits(run.state(), marked.state())
    return
  before = marked.state()
  run.optimizer.update_masks(run.gradients(1), run.step)
  marked.optimizer.mark_updated(tf.convert_to_tensor(marked.step))
  noted = "is_snipped" if name == "snip" else "last_mask_update_step"
  after, updated = marked.state(), run.state()
  assert after[noted] == updated[noted]
  del before[noted], after[noted]
  sparse_methods.assert_same_bits(before, after)
  for step in range(12):
    planned = marked.optimizer.steps_to_update(step)
    assert planned == run.optimizer.steps_to_update(step)


def test_a_program_traced_before_the_first_step_resets_slots():
  """An update is RigL's first iteration, before any slot is used."""
  eager, graph = (Run("rigl", initial_acc_scale=0.0) for _ in range(2))
  sparse_methods.train_by_halves(eager, *_halves(eager), FREQUENCY + 2)
  sparse_methods.train_by_halves(graph, *_compiled_halves(graph), FREQUENCY + 2)
  for run in (eager, graph):
    for slot, mask in zip(run.slots()["momentum"], run.masks(), strict=True):
      assert not np.any(slot[~mask])
  for a, b in zip(eager.masks(), graph.masks(), strict=True):
    np.testing.assert_array_equal(a, b)


# --- Schedule and state -------------------------------------------------------


@pytest.mark.parametrize("name", sparse_methods.SCHEDULED)
def test_nothing_is_updated_outside_of_the_window(name):
  run = Run(name, begin_step=3, end_step=12, frequency=4)
  updates, moved = [], []
  for i in range(20):
    masks, last = run.masks(), run.last_update()
    run.iterate(i)
    if run.last_update() != last:
      updates.append(run.last_update())
    if any(np.any(a != b) for a, b in zip(masks, run.masks(), strict=True)):
      moved.append(run.last_update())
      assert run.last_update() != last
  assert updates == [3, 7, 11]
  # The first pruning is to the sparsity 0, at begin_step.
  expected = {"static": [], "prune": [7, 11], "granet": [7, 11]}
  assert moved == expected.get(name, updates)


@every_method
@pytest.mark.parametrize("inner", ["momentum", "adam"])
def test_state_has_the_published_names(name, inner):
  suffixes = {"momentum": ["Momentum"], "adam": ["Adam", "Adam_1"]}[inner]
  kinds = [f"layer{i}/{what}" for i in (1, 2) for what in ("weights", "biases")]
  expected = {f"{kind}/{suffix}" for kind in kinds for suffix in suffixes}
  if inner == "adam":
    expected |= {"beta1_power", "beta2_power"}
  if name != "baseline":
    expected |= {"layer1/mask", "layer2/mask"}
  run = Run(name, inner, **({"grow_init": "zeros"} if name in RANDOM else {}))
  run.train(2)
  state = run.optimizer.state()
  expected |= {
    variable.replace("LAYER", f"layer{i}/weights")
    for variable in METHODS[name].state
    for i in (1, 2)
  }
  assert set(state) == expected
  assert len(state) == len(run.optimizer.variables())
  for suffix, slot in zip(
    suffixes, run.optimizer.get_slot_names(), strict=True
  ):
    kernel = run.model.kernels[0]
    named = state[f"layer1/weights/{suffix}"]
    assert named is run.optimizer.get_slot(kernel, slot)


if __name__ == "__main__":
  print("\n".join(_digests()))
