# SPDX-License-Identifier: Apache-2.0
"""Soft memory: grow into a surplus first, drop it at the next update."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, Run

from rigl import sparse_optimizers

ENGINES = ("numpy", "xla", "batched")


def make(method="rigl", engine="numpy", **options):
  arguments = dict(
    begin_step=0,
    end_step=2,
    frequency=1,
    drop_fraction=0.5,
    noise_std=0.0,
    mask_engine=engine,
    soft_memory=True,
  )
  classes = sparse_optimizers
  make_one = {
    "rigl": classes.SparseRigLOptimizer,
    "set": classes.SparseSETOptimizer,
  }[method]
  inner = tf.compat.v1.train.GradientDescentOptimizer(0.0)
  return make_one(inner, **arguments | options)


def one_layer(optimizer, weights, mask):
  kernel = tf.Variable(np.asarray(weights, np.float32)[None], name="a/weights")
  optimizer.create_masks([kernel], {"a": np.asarray(mask, bool)[None]})
  return kernel


def update_at(optimizer, kernel, step, gradient):
  gradient = tf.constant(np.asarray(gradient, np.float32)[None])
  optimizer.update_masks([(gradient, kernel)], tf.Variable(step, dtype="int64"))
  return optimizer.layers[0].mask.numpy()[0].astype(int).tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_hand_worked_updates(engine):
  optimizer = make(engine=engine)
  kernel = one_layer(optimizer, [4, -3, 2, 1, 9, 9, 9, 9], [1] * 4 + [0] * 4)
  # n = 4. Nothing is too much yet; int(4 / 2) = 2 grow, of largest gradient
  # among what is inactive.
  assert update_at(optimizer, kernel, 0, [9, 9, 9, 9, 1, -4, 2, 3]) == [
    *(1, 1, 1, 1, 0, 1, 0, 1),
  ]
  kernel.assign([[4, -3, 0.5, 1, 0, -2, 0, 0.1]])  # They train.
  # All but the 4 of largest weight drop, of old and new ones; the two that drop
  # may grow back, and one does, with its weight.
  assert update_at(optimizer, kernel, 1, [0, 0, 7, 0, 0, 0, 5, 1]) == [
    *(1, 1, 1, 1, 0, 1, 1, 0),
  ]
  np.testing.assert_array_equal(kernel, [[4, -3, 0.5, 1, 0, -2, 0, 0]])
  # The last update only drops.
  assert update_at(optimizer, kernel, 2, [0, 0, 0, 0, 9, 9, 9, 9]) == [
    *(1, 1, 0, 1, 0, 1, 0, 0),
  ]
  np.testing.assert_array_equal(kernel, [[4, -3, 0, 1, 0, -2, 0, 0]])


def test_a_surplus_is_at_most_the_layer():
  optimizer = make(drop_fraction=1.0)
  kernel = one_layer(optimizer, range(1, 6), [1, 1, 1, 0, 0])
  assert update_at(optimizer, kernel, 0, [0] * 5) == [1] * 5
  assert sum(update_at(optimizer, kernel, 2, [0] * 5)) == 3


def test_numbers_are_exact_at_every_iteration():
  """n, then n + int(n f) with the annealed f of the last update."""
  run = Run("mest", drop_fraction_anneal="cosine")
  assert [mask.sum() for mask in run.masks()] == [48, 48]
  for i in range(26):
    run.iterate(i)
    last = run.last_update()
    share = np.float32(0.2 * (1 + np.cos(np.pi * last / 22)))
    expected = 48 + (int(48 * share) if last < 20 else 0)
    assert [mask.sum() for mask in run.masks()] == [expected] * 2
  assert last == 20


@pytest.mark.parametrize("end_step", [20, 22, 24])
@pytest.mark.parametrize("name", ["mest", "chase"])
def test_the_last_update_leaves_the_number_that_was_asked_for(name, end_step):
  run = Run(name, end_step=end_step).train(24)
  assert run.last_update() < 20
  assert sum(mask.sum() for mask in run.masks()) > 96
  assert run.optimizer.num_surplus() > 0
  run.train(4, start=24)
  assert run.last_update() == 20
  assert sum(mask.sum() for mask in run.masks()) == 96
  assert run.optimizer.num_surplus() == 0


def oracle(weights, mask, gradient, n, total, gradient_weight=0.0):
  """The mask after an update by RigL's growth, without noise."""
  scores = np.abs(weights) + gradient_weight * np.abs(gradient)
  order = np.argsort(-np.where(mask, scores, -1), kind="stable")
  kept = np.zeros(mask.size, bool)
  kept[order[: min(n, mask.sum())]] = True
  growth = np.where(kept, -1, np.abs(gradient))
  grown = np.argsort(-growth, kind="stable")[: total - kept.sum()]
  kept[grown] = True
  return kept


@pytest.mark.parametrize(
  ("engine", "gradient_weight"),
  [("numpy", 0.0), ("numpy", 3.0), ("xla", 3.0), ("batched", 3.0)],
)
def test_masks_are_those_of_the_formula(engine, gradient_weight):
  run = Run(
    "rigl",
    soft_memory=True,
    end_step=3 * FREQUENCY,
    noise_std=0.0,
    grow_init="zeros",
    drop_gradient_weight=gradient_weight,
    mask_engine=engine,
  )
  updates = 0
  for i in range(3 * FREQUENCY + 5):
    before, kernels, last = run.masks(), run.kernels(), run.last_update()
    gradients = [g.numpy().ravel() for g, _ in run.gradients(i)[:2]]
    run.iterate(i)
    if run.last_update() == last:
      continue
    updates += 1
    total = 48 if run.last_update() == 3 * FREQUENCY else 48 + int(48 * 0.4)
    for old, weights, gradient, new in zip(
      before, kernels, gradients, run.masks(), strict=True
    ):
      expected = oracle(
        weights.ravel(), old.ravel(), gradient, 48, total, gradient_weight
      )
      np.testing.assert_array_equal(new.ravel(), expected)
  assert updates == 4


def test_the_gradient_counts_when_dropping():
  """|weight| + 2 |gradient|: 1 + 10, 3, 2 + 2 and 2.5 (MEST)."""
  for method in ("rigl", "set"):
    optimizer = make(
      method, soft_memory=False, end_step=-1, drop_gradient_weight=2.0
    )
    assert optimizer.update_is_iteration
    kernel = one_layer(
      optimizer, [1, 3, -2, 2.5, 0, 0], [True] * 4 + [False] * 2
    )
    mask = update_at(optimizer, kernel, 0, [-5, 0, 1, 0, 7, 8])
    assert mask[0] == mask[2] == 1
    if method == "rigl":
      assert mask == [1, 0, 1, 0, 1, 1]


@pytest.mark.parametrize("structure", ["2:4", "fan_in"])
def test_the_gradient_counts_within_a_structure(structure):
  run = Run(
    "rigl",
    structure=structure,
    drop_gradient_weight=5.0,
    noise_std=0.0,
    grow_init="zeros",
  )
  plain = Run("rigl", structure=structure, noise_std=0.0, grow_init="zeros")
  for each in (run, plain):
    each.train(2)
  assert [mask.sum() for mask in run.masks()] == [48, 48]
  assert any(
    np.any(a != b) for a, b in zip(run.masks(), plain.masks(), strict=True)
  )


@pytest.mark.parametrize("across", [False, True])
def test_batches_that_choose_growth_and_other_starts_work_with_it(across):
  run = Run(
    "rigl",
    soft_memory=True,
    across_layers=across,
    grow_batches=3,
    grow_init="initial_dist",
    drop_gradient_weight=0.1,
    end_step=3 * FREQUENCY,
  )
  for i in range(3 * FREQUENCY + 4):
    run.iterate(i)
    total = 96 + (19 * 2 if not across else 38)
    ones = sum(mask.sum() for mask in run.masks())
    assert ones == (total if run.last_update() < 3 * FREQUENCY else 96)
    for mask, kernel in zip(run.masks(), run.kernels(), strict=True):
      assert not kernel[~mask].any() and np.isfinite(kernel).all()


def test_random_growth_needs_no_gradient():
  assert not make("set").update_is_iteration


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"end_step": -1}, "`end_step` must be at least.*`soft_memory`.*no end"),
    ({"end_step": 0}, r"`end_step` must be at least.*= 1 with.*got 0"),
    ({"structure": "2:4"}, "`structure` must be None with `soft_memory`"),
    ({"structure": "fan_in"}, "`structure` must be None with `soft_memory`"),
    ({"soft_memory": 0.5}, "`soft_memory` must be True or False, got 0.5"),
    ({"drop_gradient_weight": -1.0}, "`drop_gradient_weight` must be"),
    ({"drop_gradient_weight": float("nan")}, "`drop_gradient_weight` must be"),
  ],
)
def test_the_constructor_refuses(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


@pytest.mark.parametrize("kind", ["connections", "blocks"])
@pytest.mark.parametrize(
  ("option", "value"),
  [
    ("soft_memory", True),
    ("across_layers", True),
    ("drop_gradient_weight", 0.5),
  ],
)
def test_layers_that_store_what_is_active_are_refused(kind, option, value):
  sparse = pytest.importorskip("rigl.sparse")
  if kind == "connections":
    layer = sparse.SparseDense(24, 16, sparsity=0.75, name="a")
  else:
    layer = sparse.BlockSparseDense(32, 32, sparsity=0.5, block=8, name="a")
  optimizer = make(**{"soft_memory": False, option: value})
  with pytest.raises(ValueError, match=f"`{option}` must be .*active {kind}"):
    optimizer.create_masks([layer])
  assert not optimizer.layers


# --- Checkpoints --------------------------------------------------------------


def checkpoint_of(run):
  return tf.train.Checkpoint(
    optimizer=run.optimizer, model=run.model, step=run.step
  )


@pytest.mark.parametrize("name", ["mest", "chase"])
def test_a_resumed_run_knows_its_surplus(name, tmp_path):
  whole = Run(name).train(26)
  first = Run(name).train(9)
  assert sum(mask.sum() for mask in first.masks()) > 96
  path = checkpoint_of(first).write(str(tmp_path / "c"))
  again = Run(name, model_seed=5)
  checkpoint_of(again).restore(path)
  again.train(17, start=9)
  sparse_methods.assert_same_bits(again.state(), whole.state())


@pytest.mark.parametrize("first", ["masks", "checkpoint"])
def test_a_checkpoint_of_another_method_gives_the_number(tmp_path, first):
  trained = Run("rigl").train(8)
  masks = trained.masks()
  masks[0][:] = np.arange(96).reshape(12, 8) < 30
  trained.optimizer.layers[0].mask.assign(masks[0])
  trained.optimizer.apply_masks()
  path = checkpoint_of(trained).write(str(tmp_path / "c"))
  other = Run("mest", end_step=40)
  if first == "checkpoint":
    other.optimizer = sparse_methods.make("mest", end_step=40)
    checkpoint_of(other).restore(path)
    other.optimizer.sparsify(other.model.kernels, "random", 0.5)
  else:
    checkpoint_of(other).restore(path)
  other.train(5, start=8)
  counts = [mask.sum() for mask in other.masks()]
  assert counts == [30 + int(30 * 0.4), 48 + int(48 * 0.4)]


def test_it_works_in_a_session():
  with tf.Graph().as_default():
    kernel = tf.Variable(np.ones((6, 6), np.float32), name="a/weights")
    optimizer = make("set", end_step=3, across_layers=True)
    optimizer.sparsify([kernel], "random", 0.5)
    step = optimizer.apply_gradients([(tf.ones([6, 6]), kernel)])
    mask = optimizer.state()["a/mask"]
    with tf.compat.v1.Session() as session:
      session.run(tf.compat.v1.global_variables_initializer())
      counts = [session.run(mask).sum()]
      for _ in range(4):
        session.run(step)
        counts.append(session.run(mask).sum())
  assert counts == [18, 27, 27, 18, 18]


def test_repr_names_it():
  assert "soft_memory=True" in repr(make())
  assert "soft_memory" not in repr(make(soft_memory=False))
