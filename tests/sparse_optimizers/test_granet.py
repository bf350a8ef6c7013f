# SPDX-License-Identifier: Apache-2.0
"""GraNet: global pruning by a cubic schedule, regrowth by gradients."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, Run

from rigl import sparse_optimizers

ENGINES = ("numpy", "xla", "batched")


def make(engine="numpy", **options):
  arguments = dict(
    begin_step=0,
    end_step=2,
    frequency=1,
    target_sparsity=0.5,
    noise_std=0.0,
    mask_engine=engine,
  )
  inner = tf.compat.v1.train.GradientDescentOptimizer(0.0)
  return sparse_optimizers.SparseGraNetOptimizer(inner, **arguments | options)


def two_layers(values, more):
  return [
    tf.Variable(np.asarray(v, np.float32)[None], name=f"layer{i}/weights")
    for i, v in enumerate((values, more), 1)
  ]


def masks_of(optimizer):
  return [layer.mask.numpy()[0].tolist() for layer in optimizer.layers]


def update_at(optimizer, kernels, step, gradients):
  optimizer.update_masks(
    [
      (tf.constant(np.asarray(g, np.float32)[None]), k)
      for g, k in zip(gradients, kernels, strict=True)
    ],
    tf.Variable(step, dtype=tf.int64),
  )


@pytest.mark.parametrize("engine", ENGINES)
def test_hand_worked_update(engine):
  kernels = two_layers([0.9, -0.8, 0.7, 0.1], [0.6, 0.5, -0.4, 0.2])
  optimizer = make(engine, end_step=1, drop_fraction_anneal="constant")
  optimizer.create_masks(kernels)
  assert masks_of(optimizer) == [[True] * 4, [True] * 4]
  # The last step of the window: 4 of 8 connections stay, by magnitude over both
  # layers 0.9, 0.8, 0.7 and 0.6. Half of each layer's drop: int(3 / 2) = 1 of
  # the first, 0.7, and int(1 / 2) = 0 of the second. In the first, the largest
  # gradient among 0.7 and 0.1 is that of the last connection.
  update_at(optimizer, kernels, 1, [[9, 9, 1, -2], [0, 7, 8, 9]])
  assert masks_of(optimizer) == [
    [True, True, False, True],
    [True, False, False, False],
  ]
  np.testing.assert_allclose(kernels[0], [[0.9, -0.8, 0.0, 0.0]])
  np.testing.assert_allclose(kernels[1], [[0.6, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_layer_keeps_its_largest_connection(engine):
  kernels = two_layers([0.1, 0.3, 0.3, 0.2], [5, 6, 7, 8])
  optimizer = make(engine, end_step=1, drop_fraction=0.0)
  optimizer.create_masks(kernels)
  update_at(optimizer, kernels, 1, [[0] * 4, [0] * 4])
  assert masks_of(optimizer) == [
    [False, True, False, False],  # Of two equal ones, the first.
    [False, True, True, True],
  ]


def test_pruned_connections_can_grow_back_with_a_new_weight():
  kernels = two_layers([0.9, -0.8, 0.7, 0.1], [3, 3, 0.05, 0.04])
  optimizer = make(
    end_step=1, drop_fraction=0.5, drop_fraction_anneal="constant"
  )
  optimizer.create_masks(kernels)
  # 3, 3, 0.9 and 0.8 stay. One of each layer drops; 0.7 was pruned and grows,
  # and starts at zero.
  update_at(optimizer, kernels, 1, [[0, 0, 5, 0], [1, 0, 0, 0]])
  assert masks_of(optimizer)[0] == [True, False, True, False]
  np.testing.assert_allclose(kernels[0], [[0.9, 0.0, 0.0, 0.0]])
  # One that drops and grows at once keeps its weight.
  assert masks_of(optimizer)[1] == [True, True, False, False]
  np.testing.assert_array_equal(kernels[1], [[3, 3, 0, 0]])


def cubic(p, first, last):
  return last + (first - last) * (1 - p) ** 3


@pytest.mark.parametrize(
  ("initial", "end_step"), [(0.0, 20), (0.2, 20), (0.0, 23)]
)
def test_sparsity_follows_the_cubic_schedule_to_the_target(initial, end_step):
  run = Run("granet", initial_sparsity=initial, end_step=end_step)
  seen = {}
  for i in range(30):
    last = run.last_update()
    run.iterate(i)
    if run.last_update() != last:
      seen[run.last_update()] = sum(m.sum() for m in run.masks())
  # The last update that the window has room for reaches the target.
  assert seen == {
    step: round(192 * (1 - cubic(step / 20, initial, 0.5)))
    for step in (0, 5, 10, 15, 20)
  }


def test_it_starts_with_random_masks_of_the_initial_sparsity():
  run = Run("granet", initial_sparsity=0.25)
  assert [m.sum() for m in run.masks()] == [72, 72]
  for mask, kernel in zip(run.masks(), run.kernels(), strict=True):
    assert not kernel[~mask].any()
  other = Run("granet", initial_sparsity=0.25, seed=1)
  assert (run.masks()[0] != other.masks()[0]).any()


def test_layers_with_the_target_zero_stay_dense():
  run = Run("granet", custom_sparsity_map={"layer2": 0.0}).train(25)
  assert [m.sum() for m in run.masks()] == [48, 96]
  assert run.optimizer.target_sparsities == {"layer1": 0.5, "layer2": 0.0}


def test_a_custom_target_starts_at_its_share():
  run = Run(
    "granet", custom_sparsity_map={"layer2": 0.25}, initial_sparsity=0.25
  )
  assert [m.sum() for m in run.masks()] == [72, 84]
  run.train(25)
  assert sum(m.sum() for m in run.masks()) == 192 - 48 - 24


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"end_step": -1}, "`end_step` must be at least.*got -1"),
    ({"end_step": FREQUENCY - 1}, f"`end_step` must be.*= {FREQUENCY}"),
    ({"target_sparsity": 1.0}, "`target_sparsity` must be.*got 1.0"),
    ({"target_sparsity": -0.1}, "`target_sparsity` must be.*got -0.1"),
    ({"initial_sparsity": 0.6}, "`initial_sparsity` must be.*got 0.6"),
    ({"initial_sparsity": -0.1}, "`initial_sparsity` must be.*got -0.1"),
    (
      {"initial_sparsity": 0.1, "structure": "2:4"},
      "`initial_sparsity` must be 0 with a `structure`, got 0.1",
    ),
  ],
)
def test_bad_arguments_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    sparse_methods.make("granet", **options)


def test_it_takes_no_sparsity_of_its_masks_and_no_compact_layers():
  kernel = tf.Variable(tf.ones([4, 4]), name="layer1/weights")
  with pytest.raises(RuntimeError, match="in place of sparsify"):
    make().sparsify([kernel])
  sparse = pytest.importorskip("rigl.sparse")
  layer = sparse.SparseDense(24, 16, sparsity=0.5, name="layer1")
  with pytest.raises(ValueError, match="because it changes the number of"):
    make().create_masks([layer])
  blocks = sparse.BlockSparseDense(32, 32, sparsity=0.5, block=8, name="layer1")
  with pytest.raises(ValueError, match="cannot train.*active blocks"):
    make().create_masks([blocks])


def test_updates_after_the_last_pruning_only_regenerate():
  kernels = two_layers([0.9, -0.8, 0.7, 0.1], [0.6, 0.5, -0.4, 0.2])
  optimizer = make(
    end_step=3, pruning_end_step=1, drop_fraction_anneal="constant"
  )
  optimizer.create_masks(kernels)
  update_at(optimizer, kernels, 1, [[9, 9, 1, -2], [0, 7, 8, 9]])
  after_pruning = masks_of(optimizer)
  assert after_pruning == [
    [True, True, False, True],
    [True, False, False, False],
  ]
  # int(3 / 2) = 1 of the first layer drops: the new one, whose weight is 0.
  update_at(optimizer, kernels, 2, [[0, 0, 5, 1], [0, 7, 8, 9]])
  assert masks_of(optimizer) == [
    [True, True, True, False],
    [True, False, False, False],
  ]


@pytest.mark.parametrize("step", [0, 4, 1.5])
def test_pruning_ends_within_the_updates(step):
  with pytest.raises(ValueError, match="`pruning_end_step` must be"):
    make(end_step=3, pruning_end_step=step)
