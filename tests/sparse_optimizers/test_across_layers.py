# SPDX-License-Identifier: Apache-2.0
"""Drop and grow over all layers at once, with a floor for each layer."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, Run

from rigl import sparse_optimizers

ENGINES = ("numpy", "xla", "batched")
GIVEN = {"a": [1, 1, 1, 1, 0, 0], "b": [1, 1, 1, 1, 0, 0]}


def make(engine="numpy", **options):
  arguments = dict(
    begin_step=0,
    end_step=3,
    frequency=1,
    drop_fraction=0.5,
    noise_std=0.0,
    mask_engine=engine,
    across_layers=True,
  )
  inner = tf.compat.v1.train.GradientDescentOptimizer(0.0)
  return sparse_optimizers.SparseRigLOptimizer(inner, **arguments | options)


def two_layers(optimizer, weights, given=GIVEN):
  kernels = [
    tf.Variable(np.asarray(values, np.float32)[None], name=f"{name}/weights")
    for name, values in zip("ab", weights, strict=True)
  ]
  masks = {name: np.asarray(mask, bool)[None] for name, mask in given.items()}
  optimizer.create_masks(kernels, masks)
  return kernels


def update_at(optimizer, kernels, step, gradients):
  optimizer.update_masks(
    [
      (tf.constant(np.asarray(g, np.float32)[None]), kernel)
      for g, kernel in zip(gradients, kernels, strict=True)
    ],
    tf.Variable(step, dtype=tf.int64),
  )
  return [
    layer.mask.numpy()[0].astype(int).tolist() for layer in optimizer.layers
  ]


@pytest.mark.parametrize("engine", ENGINES)
def test_hand_worked_update(engine):
  optimizer = make(engine, layer_floor=0.0)
  kernels = two_layers(optimizer, [[9, 8, 7, 6, 0, 0], [5, 4, 3, 2, 0, 0]])
  # int(8 / 2) = 4 drop: the smallest over both layers are all of the second,
  # which keeps its largest. So 6 of the first drops in place of 5. The four
  # largest gradients of both layers grow.
  assert update_at(
    optimizer, kernels, 0, [[9, 9, 9, 4, 1, 3], [9, 5, 6, 1, 2, 1]]
  ) == [[1, 1, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0]]
  np.testing.assert_array_equal(kernels[0], [[9, 8, 7, 6, 0, 0]])
  np.testing.assert_array_equal(kernels[1], [[5, 4, 3, 0, 0, 0]])


@pytest.mark.parametrize(
  ("floor", "kept"), [(0.0, 1), (0.3, 1), (0.5, 2), (0.75, 3), (1.0, 4)]
)
def test_a_layer_keeps_its_floor(floor, kept):
  optimizer = make(layer_floor=floor)
  kernels = two_layers(optimizer, [[9, 8, 7, 6, 0, 0], [5, 4, 3, 2, 0, 0]])
  # All growth is in the first layer, until it is full.
  masks = update_at(optimizer, kernels, 0, [[9] * 6, [0] * 6])
  total = [sum(mask) for mask in masks]
  assert sum(total) == 8
  # Floors of both may ask for more than the half that is to stay.
  assert total == {1: [6, 2], 2: [6, 2], 3: [5, 3], 4: [4, 4]}[kept]
  assert masks[1][:kept] == [1] * kept


def test_floors_are_shares_of_what_a_layer_was_given():
  """Not of what is left of it, update after update."""
  optimizer = make(layer_floor=0.5, end_step=20, drop_fraction=0.9)
  kernels = two_layers(optimizer, [[9, 8, 7, 6, 0, 0], [5, 4, 3, 2, 0, 0]])
  for step in range(6):
    masks = update_at(optimizer, kernels, step, [[9] * 6, [0] * 6])
    assert [sum(mask) for mask in masks] == [6, 2]


def test_a_layer_without_connections_gets_some():
  optimizer = make(layer_floor=0.4)
  given = {"a": [1] * 5 + [0], "b": [0] * 6}
  kernels = two_layers(optimizer, [[5, 4, 3, 2, 1, 0], [1] * 6], given)
  masks = update_at(optimizer, kernels, 0, [[0] * 6, [9] * 6])
  assert masks == [[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]


def test_floors_never_ask_for_more_than_was_given():
  """So that the last update drops the whole surplus."""
  optimizer = make(soft_memory=True, drop_fraction=1.0, end_step=1)
  given = {"a": [1] + [0] * 5, "b": [0] * 6}
  kernels = two_layers(optimizer, [[5] + [0] * 5, [0] * 6], given)
  masks = update_at(optimizer, kernels, 0, [[0] * 6, [9] * 6])
  assert [sum(mask) for mask in masks] == [1, 1]
  masks = update_at(optimizer, kernels, 1, [[0] * 6, [9] * 6])
  assert [sum(mask) for mask in masks] == [1, 0]


@pytest.mark.parametrize("soft", [False, True])
def test_a_layer_that_was_given_everything_stays_dense(soft):
  """It does not count either: int(4 / 2) connections move, not int(10 / 2)."""
  optimizer = make(soft_memory=soft, layer_floor=0.0)
  given = {"a": [1] * 6, "b": [1, 1, 1, 1, 0, 0]}
  kernels = two_layers(optimizer, [[1] * 6, [9, 8, 7, 6, 0, 0]], given)
  masks = update_at(optimizer, kernels, 0, [[0] * 6, [0, 0, 0, 0, 9, 8]])
  ones = [1, 1, 1, 1, 1, 1] if soft else [1, 1, 0, 0, 1, 1]
  assert masks == [[1] * 6, ones]


def test_with_soft_memory_the_surplus_is_of_all_layers():
  optimizer = make(soft_memory=True, layer_floor=0.25, end_step=2)
  kernels = two_layers(optimizer, [[9, 8, 7, 6, 0, 0], [5, 4, 3, 2, 0, 0]])
  # N = 8, int(8 / 2) = 4 more: all that is inactive.
  assert update_at(optimizer, kernels, 0, [[9] * 6, [9] * 6]) == [[1] * 6] * 2
  kernels[1].assign([[5, 4, 3, 2, 7.5, 1]])
  # 8 stay: 9, 8, 7, 6, 7.5, 5, 4 and 3.
  masks = update_at(optimizer, kernels, 1, [[0] * 6, [0] * 6])
  assert sum(map(sum, masks)) == 12
  assert update_at(optimizer, kernels, 2, [[9] * 6, [9] * 6]) == [
    [1, 1, 1, 1, 0, 0],
    [1, 1, 1, 0, 1, 0],
  ]


def oracle(weights, masks, gradients, keep, total, floors):
  """The masks after an update by RigL's growth, layer after layer."""
  sizes = [mask.size for mask in masks]
  scores = []
  for w, mask, floor in zip(weights, masks, floors, strict=True):
    own = np.where(mask, np.abs(w), -1.0)
    own[np.argsort(-own, kind="stable")[:floor]] += 1e6
    scores.append(own)
  kept = np.zeros(sum(sizes), bool)
  kept[np.argsort(-np.concatenate(scores), kind="stable")[:keep]] = True
  growth = np.where(kept, -1.0, np.abs(np.concatenate(gradients)))
  kept[np.argsort(-growth, kind="stable")[: total - keep]] = True
  return np.split(kept, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize(
  ("engine", "soft"),
  [("numpy", False), ("numpy", True), ("xla", True), ("batched", True)],
)
def test_masks_are_those_of_the_formula(engine, soft):
  run = Run(
    "rigl",
    across_layers=True,
    soft_memory=soft,
    layer_floor=0.8,
    end_step=3 * FREQUENCY,
    noise_std=0.0,
    grow_init="zeros",
    mask_engine=engine,
  )
  counts = set()
  for i in range(3 * FREQUENCY + 5):
    before, kernels, last = run.masks(), run.kernels(), run.last_update()
    gradients = [g.numpy().ravel() for g, _ in run.gradients(i)[:2]]
    run.iterate(i)
    counts.add(tuple(int(mask.sum()) for mask in run.masks()))
    if run.last_update() == last:
      continue
    moved = int(96 * np.float32(0.4))
    keep, total = (96, 96 + moved) if soft else (96 - moved, 96)
    if soft and run.last_update() == 3 * FREQUENCY:
      total = 96
    # The floors of both ask for more than 96 - moved.
    keep = max(keep, 2 * 38)
    expected = oracle(
      [w.ravel() for w in kernels],
      [mask.ravel() for mask in before],
      gradients,
      keep,
      total,
      [38, 38],
    )
    for new, mask in zip(run.masks(), expected, strict=True):
      np.testing.assert_array_equal(new.ravel(), mask)
  assert len(counts) > 2  # Connections do move between the layers.


def test_number_over_all_layers_is_conserved():
  run = Run("rigl_across", drop_fraction=0.7)
  shares = set()
  for i in range(4 * FREQUENCY):
    run.iterate(i)
    ones = [int(mask.sum()) for mask in run.masks()]
    assert sum(ones) == 96 and min(ones) >= 4
    shares.add(ones[0])
  assert len(shares) > 1


def test_set_grows_at_random_over_all_layers():
  """Every inactive connection is as likely to grow, whatever its layer."""
  inner = tf.compat.v1.train.GradientDescentOptimizer(0.0)
  optimizer = sparse_optimizers.SparseSETOptimizer(
    inner,
    begin_step=0,
    end_step=-1,
    frequency=1,
    drop_fraction=1.0,
    across_layers=True,
    layer_floor=0.0,
    mask_engine="numpy",
  )
  kernels = {
    name: tf.Variable(tf.ones(shape), name=f"{name}/weights")
    for name, shape in {"a": (100, 100), "b": (20, 50)}.items()
  }
  optimizer.sparsify(kernels, "random", 0.5)
  optimizer.update_masks(None, tf.constant(0, tf.int64))
  large, small = (
    float(layer.mask.numpy().mean()) for layer in optimizer.layers
  )
  assert abs(large - 0.5) < 0.01 and abs(small - 0.5) < 0.08
  assert round(10000 * large + 1000 * small) == 5500


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"layer_floor": -0.1}, "`layer_floor` must be.*got -0.1"),
    ({"layer_floor": 1.5}, "`layer_floor` must be.*got 1.5"),
    ({"layer_floor": None}, "`layer_floor` must be"),
    ({"across_layers": 1}, "`across_layers` must be True or False, got 1"),
    ({"structure": "2:4"}, "`structure` must be None with `across_layers`"),
  ],
)
def test_the_constructor_refuses(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_floors_outlive_a_checkpoint(tmp_path):
  """A layer that lost connections keeps the floor of what it was given."""
  options = dict(layer_floor=0.5, drop_fraction=0.9)

  def checkpoint(run):
    return tf.train.Checkpoint(optimizer=run.optimizer, model=run.model)

  run = Run("rigl_across", **options).train(2 * FREQUENCY)
  path = checkpoint(run).write(str(tmp_path / "c"))
  other = Run("rigl_across", model_seed=3, seed=9, **options)
  checkpoint(other).restore(path)
  other.train(1)
  state = other.optimizer.state()
  for name in ("layer1", "layer2"):
    assert state[f"{name}/weights/target_connections"].numpy() == 48


def test_repr_names_it():
  assert "across_layers=True, layer_floor=0.1" in repr(make(layer_floor=0.1))
  run = Run("rigl")
  assert "across_layers" not in repr(run.optimizer)
  sparse_methods.assert_same_bits(
    Run("rigl", layer_floor=0.7).train(7).state(), run.train(7).state()
  )
