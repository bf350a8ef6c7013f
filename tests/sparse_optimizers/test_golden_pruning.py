# SPDX-License-Identifier: Apache-2.0
"""Gradual pruning against masks recorded from the published code."""

import functools
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from rigl import sparse_optimizers

_FILE = (
  pathlib.Path(__file__).parents[1] / "golden" / "pruning_mask_updates.npz"
)
_TARGET = 0.9


@functools.cache
def _golden():
  with np.load(_FILE) as file:
    arrays = {name: file[name] for name in file.files}
  return json.loads(arrays.pop("examples").tobytes()), arrays


@functools.cache
def _pruned(weights):
  """Masks by step: a frozen layer that is pruned in steps 0 to 100."""
  kernel = tf.Variable(_golden()[1][weights], name="layer/weights")
  optimizer = sparse_optimizers.SparsePruningOptimizer(
    tf.compat.v1.train.GradientDescentOptimizer(0.0),
    begin_step=0,
    end_step=100,
    frequency=1,
    target_sparsity=_TARGET,
    mask_engine="numpy",
  )
  optimizer.create_masks([kernel])
  masks = []
  for _ in range(101):
    optimizer.apply_gradients([(tf.ones_like(kernel), kernel)])
    masks.append(optimizer.layers[0].mask.numpy())
  return masks


def _examples(weights):
  return [e for e in _golden()[0] if e["weights"] == weights]


def _step_of(example):
  return f"step{example['step']}"


def _num_ones(size, sparsity):
  """round(size * (1 - sparsity)) in float32, halves to even."""
  return int(np.rint(np.float32(size) * (np.float32(1) - np.float32(sparsity))))


@pytest.mark.parametrize("example", _examples("w"), ids=_step_of)
def test_masks_are_those_of_the_published_code(example):
  mask = _pruned("w")[example["step"]]
  recorded = _golden()[1][f"w_mask_{example['step']}"] != 0
  np.testing.assert_array_equal(mask, recorded)
  assert mask.size - np.count_nonzero(mask) == example["zeros"]
  assert np.count_nonzero(mask) == _num_ones(mask.size, example["sparsity"])


@pytest.mark.parametrize("example", _examples("w_ties"), ids=_step_of)
def test_ties_with_the_threshold_are_cut_to_the_exact_count(example):
  """Declared different: the published code keeps all of them."""
  mask = _pruned("w_ties")[example["step"]]
  assert np.count_nonzero(mask) == _num_ones(mask.size, example["sparsity"])
  weights = np.abs(_golden()[1]["w_ties"])
  recorded = _golden()[1][f"w_ties_mask_{example['step']}"] != 0
  assert not np.any(mask & ~recorded)
  only_published = weights[recorded & ~mask]
  assert np.all(only_published == np.float32(example["threshold"]))
