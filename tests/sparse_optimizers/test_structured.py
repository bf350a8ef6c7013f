# SPDX-License-Identifier: Apache-2.0
"""N:M and constant fan-in: exact in every group, with every method."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import METHODS, Run

from rigl import sparse_optimizers
from rigl.structures import parse_structure

STRUCTURES = ("2:4", "fan_in")
N_ITERATIONS = 26
# Those whose layers change their number of connections are refused.
FIXED = [n for n in sparse_methods.MASKED if n not in sparse_methods.BUDGETED]


def ones_per_group(mask, structure):
  groups = parse_structure(structure).groups("layer", mask.shape)
  return groups.split(mask.reshape(-1)).sum(0)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", FIXED)
def test_every_group_has_its_number_of_connections(name, structure):
  run = Run(name, structure=structure)
  masks = [run.masks()]
  for i in range(N_ITERATIONS):
    run.iterate(i)
    masks.append(run.masks())
    for mask, kernel in zip(masks[-1], run.kernels(), strict=True):
      assert not kernel[~mask].any()
  for i, (rows, _) in enumerate([(12, 8), (8, 12)]):
    expected = 2 if structure == "2:4" else rows // 2
    if METHODS[name].start == "sparse":
      for mask in masks:
        np.testing.assert_array_equal(
          ones_per_group(mask[i], structure), expected
        )
    np.testing.assert_array_equal(
      ones_per_group(masks[-1][i], structure), expected
    )
  if name in ("set", "momentum", "rigl"):
    assert any((a != b).any() for a, b in zip(masks[0], masks[-1], strict=True))


@pytest.mark.parametrize(
  ("name", "structure"),
  [
    ("rigl", "2:4"),
    ("rigl", "fan_in"),
    # Each compiles for all sizes of layers.
    ("snip", "2:4"),
    ("dnw", "fan_in"),
    ("prune", "2:4"),
    ("granet", "fan_in"),
    ("top_kast", "2:4"),
  ],
)
def test_all_engines_choose_the_same_connections(name, structure):
  states = [
    Run(name, structure=structure, mask_engine=engine).train(12).masks()
    for engine in ("numpy", "xla", "batched")
  ]
  for other in states[1:]:
    np.testing.assert_equal(other, states[0])


def test_rigl_grows_the_largest_gradients_of_the_groups_that_lost():
  # One output, two groups of 1:2; the weaker connection moves in its group.
  kernel = tf.Variable([[1.0], [0.0], [5.0], [0.0]], name="layer/kernel")
  optimizer = sparse_optimizers.SparseRigLOptimizer(
    tf.compat.v1.train.GradientDescentOptimizer(0.1),
    *(0, 10, 1, 0.5),
    structure="1:2",
    noise_std=0.0,
    mask_engine="numpy",
  )
  mask = np.array([[1], [0], [1], [0]])
  optimizer.create_masks({"layer": kernel}, {"layer": mask})
  gradient = tf.constant([[0.5], [2.0], [0.0], [9.0]])
  optimizer.update_masks([(gradient, kernel)])
  assert optimizer.layers[0].mask.numpy().ravel().tolist() == [0, 1, 1, 0]
  assert kernel.numpy().ravel().tolist() == [0.0, 0.0, 5.0, 0.0]


def set_optimizer(structure):
  return sparse_optimizers.SparseSETOptimizer(
    tf.compat.v1.train.GradientDescentOptimizer(0.1),
    *(0, 10, 1, 0.5),
    structure=structure,
  )


def test_fan_in_follows_the_distribution_over_layers():
  kernels = {
    "wide": tf.Variable(tf.ones([200, 100])),
    "narrow": tf.Variable(tf.ones([100, 10])),
  }
  optimizer = set_optimizer("fan_in")
  sparsities = optimizer.sparsify(kernels, "erdos_renyi_kernel", 0.9)
  for layer in optimizer.layers:
    ones = ones_per_group(layer.mask.numpy(), "fan_in")
    fan_in = kernels[layer.name].shape[0]
    expected = fan_in - int(sparsities[layer.name] * fan_in)
    np.testing.assert_array_equal(ones, expected)


def test_dense_layers_need_no_groups():
  kernels = {
    "first": tf.Variable(tf.ones([3, 3, 3, 8])),
    "second": tf.Variable(tf.ones([3, 3, 8, 8])),
  }
  optimizer = set_optimizer("2:4")
  optimizer.sparsify(kernels, "random", 0.5, {"first": 0.0})
  optimizer.update_masks()
  first, second = (layer.mask.numpy() for layer in optimizer.layers)
  assert first.all()
  np.testing.assert_array_equal(ones_per_group(second, "2:4"), 2)


def test_impossible_structures_change_nothing():
  kernel = tf.Variable(tf.ones([6, 4]))
  with pytest.raises(ValueError, match="`structure` must be 'N:M'.*'2-4'"):
    set_optimizer("2-4")
  optimizer = set_optimizer("2:4")
  with pytest.raises(ValueError, match="multiple of 4.*'layer'"):
    optimizer.sparsify({"layer": kernel}, "random", 0.5)
  with pytest.raises(ValueError, match="sparsity 0.5.*would have 0.9"):
    optimizer.sparsify({"layer": kernel}, "random", 0.9)
  assert not optimizer.layers
  assert kernel.numpy().all()
  snip = sparse_optimizers.SparseSnipOptimizer(
    tf.compat.v1.train.GradientDescentOptimizer(0.1),
    *(0.5, "random"),
    structure="2:4",
  )
  with pytest.raises(ValueError, match="multiple of 4.*'layer'"):
    snip.create_masks({"layer": kernel})


def test_given_masks_must_have_the_structure():
  kernel = tf.Variable(tf.ones([4, 2]))
  mask = np.array([[1, 1], [1, 1], [0, 1], [0, 0]])
  for structure, message in (
    ("2:4", "must have 2 of 4 connections.*got 2 to 3"),
    ("fan_in", "2 of 4.*got 2 to 3"),
  ):
    with pytest.raises(ValueError, match=message):
      set_optimizer(structure).create_masks({"layer": kernel}, {"layer": mask})
  assert kernel.numpy().all()
