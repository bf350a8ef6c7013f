# SPDX-License-Identifier: Apache-2.0
"""Tensors that do not fit end in a ValueError that names the argument."""

import numpy as np
import pytest
import tensorflow as tf

from rigl import mask_ops

SCORES = [1.0, 3.0, 2.0]
MASK = [True, False, True]
KEY = mask_ops.hash_key(0, 1, tf.constant(0))


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: mask_ops.drop_and_grow(SCORES, [1.0], SCORES, 0.5), "`mask`"),
    (
      lambda: mask_ops.drop_and_grow(SCORES[:2], MASK, SCORES, 0.5),
      "`drop_scor",
    ),
    (
      lambda: mask_ops.drop_and_grow(SCORES, MASK, SCORES[:2], 0.5),
      "`grow_scor",
    ),
    (lambda: mask_ops.drop_and_grow(None, MASK, SCORES, 0.5), "`drop_scores`"),
    (lambda: mask_ops.drop_and_grow(SCORES, MASK, SCORES, 1.5), "`drop_fract"),
    (lambda: mask_ops.drop_and_grow(SCORES, MASK, SCORES, None), "`drop_fract"),
    (lambda: mask_ops.drop_and_grow(SCORES, MASK, SCORES, "a"), "`drop_fract"),
    (lambda: mask_ops.top_k_mask(None, 1), "`scores`"),
    (lambda: mask_ops.top_k_mask(SCORES, None), "`k`"),
    (lambda: mask_ops.top_k_mask(SCORES, 0.7), "`k`"),
    (lambda: mask_ops.top_k_mask(SCORES, [1, 2]), "`k`"),
    (lambda: mask_ops.top_k_mask(SCORES, 1, [1.0, 0.0, 1.0]), "`candidates`"),
    (lambda: mask_ops.random_mask([None, 2], 1, KEY), "`shape`"),
    (lambda: mask_ops.random_mask("shape", 1, KEY), "`shape`"),
    (lambda: mask_ops.random_mask([3], 1, 5), "`key`"),
    (lambda: mask_ops.random_mask([3], 1, KEY[:1]), "`key`"),
    (lambda: mask_ops.hash_key(None, 1, 0), "`seed`"),
    (lambda: mask_ops.hash_key(1.5, 1, 0), "`seed`"),
    (lambda: mask_ops.random_bits(-1, KEY), "`size`"),
    (lambda: mask_ops.random_uniform(None, KEY), "`size`"),
    (lambda: mask_ops.MaskEngine("numpy", 1.5), "`threads`"),
    (lambda: mask_ops.MaskEngine(["numpy"]), "`mask_engine`"),
  ],
)
def test_functions_of_one_layer_name_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize("engine", ["numpy", "xla", "batched"])
def test_engines_need_one_value_per_layer(engine):
  engine = mask_ops.MaskEngine(engine)
  scores, mask = [tf.constant(SCORES)], [tf.constant(MASK)]
  for call, message in (
    (lambda: engine.top_k(scores[0], [1]), "`scores` must be a list"),
    (lambda: engine.top_k(scores, 1), "`k` must be a list"),
    (lambda: engine.top_k(scores, [1, 2]), "1 of `scores`, 2 of `k`"),
    (
      lambda: engine.drop_and_grow(scores, mask * 2, scores, 0.5),
      "2 of `masks`",
    ),
    (
      lambda: engine.drop_and_grow(scores, mask, scores, 2.0),
      "`drop_fraction`",
    ),
  ):
    with pytest.raises(ValueError, match=message):
      call()


def test_integers_of_numpy_are_seeds():
  same = mask_ops.hash_key(np.int64(3), 1, tf.constant(0))
  assert (same.numpy() == mask_ops.hash_key(3, 1, tf.constant(0)).numpy()).all()


def test_float64_scores_are_compared_as_float32():
  scores = tf.constant([1.0, 1.0 + 1e-12, 2.0, -1e300], tf.float64)
  mask = mask_ops.top_k_mask(scores, 2)
  assert mask.numpy().tolist() == [True, False, True, False]
