# SPDX-License-Identifier: Apache-2.0
"""How optimizers describe themselves, and what a checkpoint holds of them."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, METHODS, Run


def test_repr_is_one_line_of_settings():
  assert repr(Run("rigl").optimizer) == (
    "SparseRigLOptimizer(MomentumOptimizer, layers=2, connections=192, "
    "begin_step=0, end_step=100, frequency=5, drop_fraction=0.4, "
    "drop_fraction_anneal='constant')"
  )
  assert repr(Run("snip").optimizer) == (
    "SparseSnipOptimizer(MomentumOptimizer, layers=2, connections=192, "
    "default_sparsity=0.5, mask_init_method='random')"
  )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_prints_in_one_line(name):
  for text in (str(sparse_methods.make(name)), str(Run(name).optimizer)):
    assert text.startswith(METHODS[name].make.__name__ + "(MomentumOptimizer, ")
    assert "\n" not in text


def test_summary_before_an_update():
  run = Run("rigl", given_masks=True)
  assert run.optimizer.summary().splitlines() == [
    "Layer   Shape  Active  Sparsity  Changed",
    "layer1  12x8       88     8.33%        -",
    "layer2  8x12       88     8.33%        -",
    "Total             176     8.33%        -",
    "Changed: no mask update was seen yet.",
  ]


def test_summary_shows_the_share_of_the_last_update():
  run = Run("set", track_exploration=False).train(FREQUENCY)
  before = run.masks()
  run.train(2, FREQUENCY)  # An update at the step FREQUENCY.
  changed = [
    np.count_nonzero(old != new)
    for old, new in zip(before, run.masks(), strict=True)
  ]
  assert min(changed) > 0
  names = ["layer1", "layer2"]
  assert run.optimizer.changed_in_last_update() == dict(
    zip(names, changed, strict=True)
  )
  lines = run.optimizer.summary().splitlines()
  shares = [line.split()[-1] for line in lines[1:4]]
  assert shares == [
    f"{changed[0] / 96:.2%}",
    f"{changed[1] / 96:.2%}",
    f"{sum(changed) / 192:.2%}",
  ]
  assert lines[4].startswith("Changed: share of the connections")


def test_a_loop_tells_what_a_compiled_update_changed():
  run = Run("set", track_exploration=False).train(1)

  @tf.function(autograph=False)
  def update():
    run.optimizer.update_masks(None, run.step)

  update()
  assert run.optimizer.changed_in_last_update() is None
  run.optimizer.note_update([24, 48])
  counts = {"layer1": 24, "layer2": 48}
  assert run.optimizer.changed_in_last_update() == counts
  lines = run.optimizer.summary().splitlines()
  assert [line.split()[-1] for line in lines[1:4]] == [
    "25.00%",
    "50.00%",
    "37.50%",
  ]
  with pytest.raises(ValueError, match="`changed` must have 2 counts, got 1"):
    run.optimizer.note_update([3])


def test_no_summary_without_masks():
  with pytest.raises(RuntimeError, match="no masks yet"):
    sparse_methods.make("rigl").summary()


@pytest.mark.parametrize("name", METHODS)
def test_checkpoints_hold_masks_as_float32(name):
  optimizer = Run(name).train(1).optimizer
  state, saved = optimizer.state(), optimizer.checkpoint_state()
  assert list(saved) == list(state)
  masks = optimizer.mask_state()
  assert set(masks) == {n for n in state if n.endswith("/mask")}
  for key, value in saved.items():
    assert value.dtype == (tf.float32 if key in masks else state[key].dtype)
    np.testing.assert_array_equal(value, np.asarray(state[key]))


@pytest.mark.parametrize("name", METHODS)
def test_updates_before_a_step_are_those_of_a_run(name):
  options, updates = {}, [0] if name == "snip" else []
  if name in sparse_methods.SCHEDULED:
    options = dict(begin_step=2, end_step=11, frequency=4)
    updates = [2, 6, 10]
  run, found = Run(name, **options), set()
  for i in range(20):
    run.iterate(i)
    if options:
      found.add(run.last_update())
  assert not options or found - {-4} == set(updates)
  counted = [run.optimizer.num_updates_before(step) for step in range(20)]
  assert counted == [sum(u < step for u in updates) for step in range(20)]
