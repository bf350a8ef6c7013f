# SPDX-License-Identifier: Apache-2.0
"""`track_exploration`: which connections were ever active."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, Run

from rigl import sparse_optimizers


def explored(run):
  state = run.optimizer.state()
  return [state[f"layer{i}/weights/explored"].numpy() for i in (1, 2)]


@pytest.mark.parametrize("name", sparse_methods.DROP_GROW)
def test_what_was_ever_active_is_explored(name):
  run = Run(name, track_exploration=True)
  ever = run.masks()
  for i in range(3 * FREQUENCY):
    for found, mask in zip(explored(run), ever, strict=True):
      np.testing.assert_array_equal(found, mask)
    run.iterate(i)
    ever = [a | b for a, b in zip(ever, run.masks(), strict=True)]
  shares = run.optimizer.explored_shares()
  expected = [mask.mean() for mask in ever]
  assert list(shares.values()) == pytest.approx(expected)
  if name == "static":
    assert expected == [0.5, 0.5]
  else:
    assert min(expected) > 0.5
  counts = run.optimizer.explored_counts()
  assert [int(n) for n in counts.values()] == [m.sum() for m in ever]
  lines = run.optimizer.summary().splitlines()
  assert lines[0].endswith("Explored")
  assert lines[1].endswith(f"{expected[0]:.2%}")
  total = sum(m.sum() for m in ever) / sum(m.size for m in ever)
  assert lines[3].endswith(f"{total:.2%}")


def test_it_is_off_by_default():
  run = Run("rigl").train(1)
  optimizer = run.optimizer
  assert not optimizer.tracks_exploration
  assert optimizer.explored_shares() == optimizer.explored_counts() == {}
  assert "explored" not in " ".join(optimizer.state())
  assert "Explored" not in optimizer.summary()


@pytest.mark.parametrize("value", [1, "yes", None, 0.5])
def test_it_is_a_flag(value):
  with pytest.raises(ValueError, match="`track_exploration` must be True or"):
    Run("set", track_exploration=value)


def test_it_changes_no_mask_and_no_weight():
  with_it, without = (
    Run("rigl", track_exploration=tracks).train(12).state()
    for tracks in (True, False)
  )
  sparse_methods.assert_same_bits(
    {k: v for k, v in with_it.items() if "explored" not in k}, without
  )


def checkpoint_of(run):
  return tf.train.Checkpoint(
    optimizer=run.optimizer, model=run.model.all_variables, step=run.step
  )


def test_a_resumed_run_goes_on(tmp_path):
  whole = Run("rigl", track_exploration=True).train(14)
  first = Run("rigl", track_exploration=True).train(8)
  path = checkpoint_of(first).write(str(tmp_path / "c"))
  again = Run("rigl", track_exploration=True, seed=5)
  checkpoint_of(again).restore(path)
  for a, b in zip(explored(again), explored(first), strict=True):
    np.testing.assert_array_equal(a, b)
  again.optimizer._seed = 0
  again.train(6, start=8)
  for a, b in zip(explored(again), explored(whole), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("first", ["masks", "checkpoint"])
def test_a_checkpoint_without_it_starts_the_count_at_its_mask(tmp_path, first):
  trained = Run("rigl").train(8)
  path = checkpoint_of(trained).write(str(tmp_path / "c"))
  other = Run("rigl", track_exploration=True, seed=3)
  if first == "checkpoint":
    model = sparse_methods.Model(1)
    other.model = model
    other.optimizer = sparse_methods.make("rigl", track_exploration=True)
    checkpoint_of(other).restore(path)
    other.optimizer.sparsify(model.kernels, "random", 0.5)
  else:
    checkpoint_of(other).restore(path)
    other.optimizer.apply_masked_gradients(other.gradients(0), other.step)
  for found, mask in zip(explored(other), trained.masks(), strict=True):
    np.testing.assert_array_equal(found, mask)


def test_assigned_masks_are_explored_by_the_next_update():
  run = Run("set", track_exploration=True)
  run.train(3)
  given = np.eye(12, 8) == 0
  run.optimizer.layers[0].mask.assign(given)
  run.optimizer.apply_masks()
  run.train(FREQUENCY, start=3)
  assert explored(run)[0][given].all()


def test_it_works_in_a_session():
  with tf.Graph().as_default():
    kernel = tf.Variable(np.ones((6, 6), np.float32), name="layer1/weights")
    optimizer = sparse_optimizers.SparseSETOptimizer(
      tf.compat.v1.train.GradientDescentOptimizer(0.1),
      begin_step=0,
      end_step=-1,
      frequency=1,
      drop_fraction=0.5,
      track_exploration=True,
      mask_engine="numpy",
    )
    optimizer.sparsify([kernel], "random", 0.5)
    step = optimizer.apply_gradients([(tf.ones([6, 6]), kernel)])
    mask, ever = (
      optimizer.state()[f"layer1/{name}"]
      for name in ("mask", "weights/explored")
    )
    with tf.compat.v1.Session() as session:
      session.run(tf.compat.v1.global_variables_initializer())
      seen = session.run(mask)
      np.testing.assert_array_equal(session.run(ever), seen)
      for _ in range(3):
        session.run(step)
        seen |= session.run(mask)
        np.testing.assert_array_equal(session.run(ever), seen)
      assert seen.mean() > 0.5


@pytest.mark.parametrize("kind", ["compact", "blocks"])
def test_layers_that_store_what_is_active_are_explored_too(kind):
  sparse = pytest.importorskip("rigl.sparse")
  if kind == "compact":
    layer = sparse.SparseDense(24, 16, sparsity=0.75, name="layer1")
  else:
    layer = sparse.BlockSparseDense(
      32, 32, sparsity=0.5, block=8, name="layer1"
    )
  optimizer = sparse_optimizers.SparseSETOptimizer(
    tf.compat.v1.train.GradientDescentOptimizer(0.1),
    begin_step=0,
    end_step=-1,
    frequency=1,
    drop_fraction=0.5,
    track_exploration=True,
    mask_engine="numpy",
  )
  optimizer.create_masks([layer])
  (sparse_layer,) = optimizer.layers

  def active():
    flat = np.zeros(sparse_layer.size, bool)
    flat[sparse_layer.active_positions()] = True
    return flat

  ever = active()
  start = ever.mean()
  for _ in range(3):
    optimizer.update_masks()
    ever |= active()
    (found,) = (v for k, v in optimizer.state().items() if "explored" in k)
    np.testing.assert_array_equal(found.numpy().reshape(-1), ever)
    optimizer.global_step.assign_add(1)
  assert ever.mean() > start
  assert optimizer.explored_shares() == {"layer1": pytest.approx(ever.mean())}
