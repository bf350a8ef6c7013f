# SPDX-License-Identifier: Apache-2.0
"""Selection within groups: a NumPy reference, the same bits in all engines."""

import numpy as np
import pytest
import tensorflow as tf

from rigl.mask_ops import MaskEngine
from rigl.structures import parse_structure

ENGINES = ("xla", "batched", "numpy")
LAYERS = [("2:4", (16, 3)), ("fan_in", (2, 2, 5, 7)), (None, (6, 5))]


def groups_of(structure, shape):
  parsed = parse_structure(structure)
  return None if parsed is None else parsed.groups("layer", shape)


def highest(scores, k, candidates):
  """The k candidates of highest score, the first of equal ones."""
  order = np.lexsort((np.arange(scores.size), -scores, ~candidates))
  mask = np.zeros(scores.shape, bool)
  mask[order[: min(k, candidates.sum())]] = True
  return mask


def highest_per_group(groups, scores, k, candidates):
  columns = [groups.split(each) for each in (scores, candidates)]
  chosen = np.stack(
    [
      highest(column, number, allowed)
      for column, allowed, number in zip(
        columns[0].T,
        columns[1].T,
        np.broadcast_to(k, groups.number),
        strict=True,
      )
    ],
    axis=1,
  )
  return groups.join(chosen)


def few_values(rng, size):
  """Scores with many ties, both signs and infinities."""
  return rng.choice([-np.inf, -2, -1, -0.0, 0.0, 1, 3, np.inf], size).astype(
    np.float32
  )


@pytest.mark.parametrize("name", ENGINES)
def test_top_k_takes_the_highest_of_every_group(name):
  rng = np.random.default_rng(0)
  scores = [few_values(rng, np.prod(shape)) for _, shape in LAYERS]
  allowed = [rng.uniform(size=each.size) < 0.6 for each in scores]
  groups = [groups_of(*layer) for layer in LAYERS]
  ones = [2, 6, 9]
  for candidates in (allowed, None):
    masks = MaskEngine(name).top_k(scores, ones, candidates, groups)
    for i, own in enumerate(groups):
      among = np.ones_like(allowed[i]) if candidates is None else allowed[i]
      expected = (
        highest(scores[i], ones[i], among)
        if own is None
        else highest_per_group(own, scores[i], ones[i], among)
      )
      np.testing.assert_array_equal(masks[i], expected)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_every_group_grows_what_it_lost(name, fraction):
  rng = np.random.default_rng(1)
  groups = [groups_of(*layer) for layer in LAYERS]
  masks = [
    rng.uniform(size=np.prod(shape)) < density
    for (_, shape), density in zip(LAYERS, (0.5, 0.2, 0.5), strict=True)
  ]
  drop, grow = (
    [few_values(rng, mask.size) for mask in masks] for _ in range(2)
  )
  results = MaskEngine(name).drop_and_grow(drop, masks, grow, fraction, groups)
  for i, own in enumerate(groups):
    ones = masks[i].sum()
    num_drop = int(np.float32(ones) * np.float32(fraction))
    kept = highest(drop[i], ones - num_drop, masks[i])
    if own is None:
      grown = highest(grow[i], num_drop, ~kept)
    else:
      lost = own.split(masks[i] & ~kept).sum(0)
      grown = highest_per_group(own, grow[i], lost, ~kept)
      before, after = (
        own.split(np.asarray(mask)).sum(0)
        for mask in (masks[i], results[i].mask)
      )
      np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(results[i].grown, grown)
    np.testing.assert_array_equal(results[i].mask, kept | grown)


@pytest.mark.parametrize("jit", [False, True])
def test_it_compiles_with_static_groups(jit):
  groups = groups_of("2:4", (16, 3))
  scores = np.random.default_rng(2).normal(size=48).astype(np.float32)
  engine = MaskEngine("batched")

  @tf.function(jit_compile=jit)
  def choose(values):
    return engine.top_k([values], [2], None, [groups])[0]

  expected = highest_per_group(groups, scores, 2, np.ones(48, bool))
  np.testing.assert_array_equal(choose(tf.constant(scores)), expected)
